-- wrk's script: POSTs a command to COMMAND_PATH for account after account of ACCOUNTS many; one account: a hot key.
local accounts, path = tonumber(os.getenv("ACCOUNTS")), os.getenv("COMMAND_PATH")
local headers, next_account = {["Content-Type"] = "application/json"}, 0

function init()
  headers["Host"] = wrk.host .. ":" .. wrk.port  -- the server refuses others
end

function request()
  next_account = (next_account + 7919) % accounts
  return wrk.format("POST", path, headers, string.format('{"account":"a%d","amount":1}', next_account))
end

function done(summary, latency)
  local faults = summary.errors
  io.stdout:write(string.format('{"requests":%d,"seconds":%f,"faults":%d,"p50_ms":%f,"p99_ms":%f}\n', summary.requests,
    summary.duration / 1e6, faults.status + faults.connect + faults.read + faults.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
