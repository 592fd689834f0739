SELECT o.what, round(o.value, 1) AS value, o.unit FROM observations o WHERE o.loinc = '8302-2' ORDER BY o.effective LIMIT 2
