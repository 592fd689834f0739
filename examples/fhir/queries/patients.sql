SELECT p.given, p.family, p.city, p.born, count(*) AS observations FROM patients p JOIN observations o ON o.patient = p.id GROUP BY ALL
