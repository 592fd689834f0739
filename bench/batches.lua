-- wrk's script: POSTs the batches of the file BATCHES (separated by NUL bytes) to BATCHES_PATH, in turn.
local requests = {}
local next_request = 0

function init()
  -- Host is the server's own: it refuses others.
  local headers = {["Content-Type"] = "application/x-ndjson", ["Host"] = wrk.host .. ":" .. wrk.port}
  local file = assert(io.open(os.getenv("BATCHES"), "rb"))
  for body in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = wrk.format("POST", os.getenv("BATCHES_PATH"), headers, body)
  end
  file:close()
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function done(summary)
  local faults = summary.errors
  io.stdout:write(string.format('{"requests":%d,"seconds":%f,"faults":%d}\n', summary.requests, summary.duration / 1e6,
    faults.status + faults.connect + faults.read + faults.timeout))
end
