SELECT id, customer, status, amount FROM orders_now ORDER BY id
