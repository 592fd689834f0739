SELECT id, score, verdict FROM scores ORDER BY id
