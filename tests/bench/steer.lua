-- wrk: sends the requests of a file, one path a line, in order and again from the start; prints the totals as JSON.
-- All requests are formatted before the run starts, so that the client uses little CPU time.

local requests, count, index = {}, 0, 0

function init(arguments)
  for path in io.lines(arguments[1]) do
    count = count + 1
    requests[count] = wrk.format("GET", path)
  end
end

function request()
  index = index % count + 1
  return requests[index]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  local line = '{"requests": %d, "seconds": %.6f, "bytes": %d, "failed": %d, "p99_us": %d}\n'
  io.write(line:format(summary.requests, summary.duration / 1e6, summary.bytes, failed, latency:percentile(99)))
end
