SELECT customer, orders, total, highest FROM paid_by_customer ORDER BY customer
