SELECT sku, city, price FROM prices ORDER BY sku
