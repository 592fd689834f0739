SELECT repository, number, state, labels FROM issues ORDER BY repository, number
