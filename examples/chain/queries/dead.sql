SELECT s.stream, s.at, s.code FROM _dead_letters s ORDER BY ALL
