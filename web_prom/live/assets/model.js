// What the page computes from snapshots: rates across resets, ratios and estimates of quantiles.
//
// A snapshot has counters that only grow, except when the service starts again. Every function here is pure.

/** Return by how much a counter grew. A counter that went back started again at zero. */
export function growth(now, before) {
  return now >= before ? now - before : now;
}

/** Return the growth of each member of an object of counters. A counter that is new counts whole. */
export function growthOf(now, before) {
  const grown = {};
  for (const [name, value] of Object.entries(now)) grown[name] = growth(value, before?.[name] ?? 0);
  return grown;
}

/** Return the growth of each bucket of a histogram. Other buckets, or one that shrank, are those of a new start. */
export function growthOfCounts(now, before) {
  if (!before || before.length !== now.length || now.some((value, at) => value < before[at])) return [...now];
  return now.map((value, at) => value - before[at]);
}

/**
 * Return what the rows of a section did between two snapshots: the growth of their counters.
 *
 * @param {object[]} now Rows of the later snapshot.
 * @param {object[]|null} before Rows of the earlier one, or null: since the service started.
 * @param {string[]} names The members that name a row.
 * @param {string[]} counters The members that are counters, or objects of counters.
 */
export function growthOfRows(now, before, names, counters) {
  const nameOf = (row) => JSON.stringify(names.map((name) => row[name]));
  const former = new Map((before ?? []).map((row) => [nameOf(row), row]));
  return now.map((row) => {
    const earlier = former.get(nameOf(row));
    const grown = { ...row };
    for (const counter of counters) {
      const value = row[counter];
      if (value == null) continue;
      grown[counter] = typeof value === "object" ? growthOf(value, earlier?.[counter]) : growth(value, earlier?.[counter] ?? 0);
    }
    return grown;
  });
}

export function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/**
 * Estimate a quantile from the counts of buckets, as PromQL does: linear within a bucket. Observations above the
 * highest bound count as that bound.
 *
 * @param {(number|null)[]} bounds Upper bounds in seconds; null is infinity.
 * @param {number[]} counts Observations in each bucket, not cumulative.
 * @param {number} wanted 0 to 1.
 * @returns {number|null} Seconds, or null if nothing was observed.
 */
export function quantile(bounds, counts, wanted) {
  const all = sum(counts);
  if (!all) return null;
  const rank = wanted * all;
  let below = 0;
  let lower = 0;
  for (let at = 0; at < counts.length; at += 1) {
    const bound = bounds[at];
    if (below + counts[at] >= rank && counts[at] > 0) {
      if (bound === null) return lower;
      return lower + ((bound - lower) * (rank - below)) / counts[at];
    }
    below += counts[at];
    if (bound !== null) lower = bound;
  }
  return lower;
}

/** Tell whether an estimate is the highest bound: what was observed may be above it. */
export function isHighest(bounds, value) {
  return value != null && bounds.length > 1 && value >= bounds.at(-2);
}

/** Return "2xx" for "200". */
export function statusClass(status) {
  return /^[1-5]/.test(status) ? `${status[0]}xx` : "other";
}

/** Add up the counters of several rows. */
export function total(rows, field) {
  return sum(rows.map((row) => row[field] ?? 0));
}

/** Return the point of a chart's time line that a snapshot makes: the same members as a point of history.json. */
export function pointOf(snapshot) {
  const statuses = {};
  const counts = snapshot.requests.buckets.map(() => 0);
  let seconds = 0;
  for (const row of snapshot.requests.routes) {
    for (const [status, value] of Object.entries(row.statuses)) {
      const name = statusClass(status);
      statuses[name] = (statuses[name] ?? 0) + value;
    }
    row.counts.forEach((value, at) => (counts[at] += value));
    seconds += row.seconds;
  }
  const known = (field) => {
    const values = snapshot.workers.map((worker) => worker[field]).filter((value) => value != null);
    return values.length ? sum(values) : null;
  };
  const queue = snapshot.queue_time;
  return {
    time: snapshot.time,
    statuses,
    seconds,
    counts,
    in_progress: snapshot.requests.in_progress,
    queue_seconds: queue ? queue.seconds : null,
    queue_count: queue ? sum(queue.counts) : null,
    queue_counts: queue ? queue.counts : null,
    loop_counts: snapshot.event_loop ? snapshot.event_loop.counts : null,
    capacity: known("capacity"),
    cpu_seconds: known("cpu_seconds"),
    resident_bytes: known("resident_bytes"),
  };
}

/** Return what happened between two points, for each second. */
export function between(before, after) {
  const elapsed = Math.max(after.time - before.time, 1e-3);
  const grown = growthOf(after.statuses, before.statuses);
  const perSecond = {};
  for (const [name, value] of Object.entries(grown)) perSecond[name] = value / elapsed;
  const requests = sum(Object.values(grown));
  const busy = growth(after.seconds, before.seconds);
  const queued = after.queue_count == null ? 0 : growth(after.queue_count, before.queue_count ?? 0);
  return {
    time: after.time,
    elapsed,
    perSecond,
    requests,
    rate: requests / elapsed,
    errors: requests ? (grown["5xx"] ?? 0) / requests : null,
    counts: growthOfCounts(after.counts, before.counts),
    utilisation: after.capacity ? busy / elapsed / after.capacity : null,
    queueCounts: both(after.queue_counts, before.queue_counts),
    loopCounts: both(after.loop_counts, before.loop_counts),
    queueMean: queued ? growth(after.queue_seconds, before.queue_seconds ?? 0) / queued : null,
    inProgress: after.in_progress,
    cpu: after.cpu_seconds == null ? null : growth(after.cpu_seconds, before.cpu_seconds ?? 0) / elapsed,
    memory: after.resident_bytes,
  };
}

/** Return the growth of a histogram that both points know, or null. */
function both(now, before) {
  return now && before ? growthOfCounts(now, before) : null;
}

/** Tell whether the counters of requests began again at zero between two points. */
export function wasReset(before, after) {
  return sum(after.counts) < sum(before.counts) || after.counts.length !== before.counts.length;
}

/** Add up the counts of buckets of several steps. Steps that do not know them are left out; null if none does. */
export function sumOfCounts(steps, member) {
  const known = steps.map((step) => step[member]).filter(Boolean);
  const latest = known.at(-1);
  if (!latest) return null;
  return latest.map((_, at) => sum(known.filter((counts) => counts.length === latest.length).map((counts) => counts[at])));
}

export const keyOf = (row) => `${row.method} ${row.route}`;

/**
 * Return the table of routes: what each did between two snapshots, or since the service started.
 *
 * @param {object} now The member "requests" of the later snapshot.
 * @param {object|null} before That of the earlier one.
 * @param {number} elapsed Seconds between the two.
 */
export function routeTable(now, before, elapsed) {
  const former = new Map((before?.routes ?? []).map((row) => [keyOf(row), row]));
  const table = now.routes.map((row) => {
    const earlier = before ? former.get(keyOf(row)) : null;
    const statuses = growthOf(row.statuses, earlier?.statuses);
    const counts = growthOfCounts(row.counts, earlier?.counts);
    const requests = sum(Object.values(statuses));
    const seconds = growth(row.seconds, earlier?.seconds ?? 0);
    const failed = sum(Object.entries(statuses).map(([status, value]) => (status >= "5" ? value : 0)));
    const queries = row.queries == null ? null : growth(row.queries, earlier?.queries ?? 0);
    const repeated = row.repeated_queries == null ? null : growth(row.repeated_queries, earlier?.repeated_queries ?? 0);
    const querySeconds = row.query_seconds == null ? null : growth(row.query_seconds, earlier?.query_seconds ?? 0);
    return {
      key: keyOf(row),
      method: row.method,
      route: row.route,
      statuses,
      exceptions: growthOf(row.exceptions, earlier?.exceptions),
      counts,
      requests,
      seconds,
      rate: elapsed ? requests / elapsed : null,
      errors: requests ? failed / requests : null,
      mean: requests ? seconds / requests : null,
      p50: quantile(now.buckets, counts, 0.5),
      p95: quantile(now.buckets, counts, 0.95),
      p99: quantile(now.buckets, counts, 0.99),
      queries: queries == null || !requests ? null : queries / requests,
      repeated: repeated == null || !requests ? null : repeated / requests,
      database: querySeconds == null || !seconds ? null : Math.min(querySeconds / seconds, 1),
    };
  });
  const all = total(table, "seconds");
  for (const row of table) row.share = all ? row.seconds / all : null;
  return table.filter((row) => row.requests > 0 || !before);
}

/** Return exceptions of all routes with their counts, the most frequent first. */
export function exceptionTable(routes) {
  return routes
    .flatMap((row) =>
      Object.entries(row.exceptions).map(([name, count]) => ({ name, count, key: row.key, route: row.route, method: row.method })),
    )
    .filter((row) => row.count > 0)
    .sort((one, other) => other.count - one.count);
}
