SELECT device, celsius FROM alarms ORDER BY device
