SELECT event, events FROM by_event ORDER BY event
