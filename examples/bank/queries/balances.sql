SELECT account, balance, entries FROM balances ORDER BY account
