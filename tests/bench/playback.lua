-- wrk: playback requests, one JSON body a line of a file, from first to last and over again; what came of them as JSON.
-- They are written out before the clock starts, so that the client costs little.

local requests, count, place = {}, 0, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    count = count + 1
    requests[count] = wrk.format("POST", "/v1/playback", headers, body)
  end
end

function request()
  place = place % count + 1
  return requests[place]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  local line = '{"requests": %d, "seconds": %.6f, "bytes": %d, "failed": %d, "p99_us": %d}\n'
  io.write(line:format(summary.requests, summary.duration / 1e6, summary.bytes, failed, latency:percentile(99)))
end
