# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which titles the clusters at exchanges hold, after those of partners: a weighted set cover for each title.

Viewers with the same exchanges in reach are an *audience*. An audience whose partner holds a title needs no exchange
for it. Any exchange in reach serves the others with the same gain, so one of them is enough:

    maximise   sum of the demand of audiences with a holder in reach - sum of the prices of the holders

A title is solved greedily, the exchange first that serves most for its price; one that others made needless goes again.
The prices are those at which the titles fill the disks.

The proof is the dual of the cover: audiences share the price of an exchange so that no exchange receives more than its
price. What an audience's demand exceeds its share is the most that exchanges are worth to it. Groups of clusters get
that as a level (`placement.pyx`).
"""

from libc.math cimport INFINITY, pow
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef double TIGHTER = 0.98  # prices while titles are assigned, so that disks are full before the list ends
cdef double EVEN = 0.1  # most that a price is corrected while its disk fills faster than the others


cdef class Exchanges:
    """The exchanges, by index; `disks` in bytes. `reach` has the exchanges of each audience. Raises ValueError."""

    cdef readonly int exchanges, audiences
    cdef uint32_t* reach_first
    cdef uint32_t* reach
    cdef uint32_t* served_first  # the audiences of an exchange: the same pairs by exchange
    cdef uint32_t* served
    cdef double* disks
    cdef double* room
    cdef double* used
    cdef double* price
    cdef double* gain
    cdef double* paid
    cdef double* demand
    cdef double* charge
    cdef double* spare
    cdef double* spare_charge
    cdef uint32_t* by_exchange  # that serves an audience; `exchanges` for none
    cdef uint32_t* holders
    cdef uint32_t* candidates
    cdef uint32_t* holders_in_reach  # of an audience
    cdef uint8_t* holds
    cdef int holder_count, candidate_count

    def __cinit__(self, disks not None, reach not None):
        cdef Py_ssize_t pairs = sum([len(row) for row in reach]), at = 0
        cdef int i, exchange
        self.exchanges, self.audiences = len(disks), len(reach)
        self.reach_first = <uint32_t*> malloc((self.audiences + 1) * sizeof(uint32_t))
        self.reach = <uint32_t*> malloc((pairs + 1) * sizeof(uint32_t))
        self.served_first = <uint32_t*> malloc((self.exchanges + 1) * sizeof(uint32_t))
        self.served = <uint32_t*> malloc((pairs + 1) * sizeof(uint32_t))
        self.by_exchange = <uint32_t*> malloc((self.audiences + 1) * sizeof(uint32_t))
        self.holders = <uint32_t*> malloc((self.exchanges + 1) * sizeof(uint32_t))
        self.candidates = <uint32_t*> malloc((self.exchanges + 1) * sizeof(uint32_t))
        self.holders_in_reach = <uint32_t*> malloc((self.audiences + 1) * sizeof(uint32_t))
        self.holds = <uint8_t*> malloc(self.exchanges + 1)
        self.disks = <double*> malloc(6 * (self.exchanges + 1) * sizeof(double))
        self.demand = <double*> malloc(4 * (self.audiences + 1) * sizeof(double))
        if NULL in (self.reach_first, self.reach, self.served_first, self.served, self.by_exchange,
                    self.holders, self.candidates, self.holders_in_reach, self.holds, self.disks, self.demand):
            raise MemoryError
        self.room = self.disks + self.exchanges
        self.used = self.room + self.exchanges
        self.price = self.used + self.exchanges
        self.gain = self.price + self.exchanges
        self.paid = self.gain + self.exchanges
        self.charge = self.demand + self.audiences
        self.spare = self.charge + self.audiences
        self.spare_charge = self.spare + self.audiences
        for exchange in range(self.exchanges):
            self.disks[exchange] = disks[exchange]
        served = [[] for _ in range(self.exchanges)]
        for i, row in enumerate(reach):
            self.reach_first[i] = at
            for exchange in row:
                if not 0 <= exchange < self.exchanges:
                    raise ValueError(f"audience {i}: exchange {exchange} of {self.exchanges}")
                self.reach[at] = exchange
                served[exchange].append(i)
                at += 1
        self.reach_first[self.audiences] = at
        at = 0
        for exchange, row in enumerate(served):
            self.served_first[exchange] = at
            for audience in row:
                self.served[at] = audience
                at += 1
        self.served_first[self.exchanges] = at

    def __dealloc__(self):
        free(self.reach_first)
        free(self.reach)
        free(self.served_first)
        free(self.served)
        free(self.by_exchange)
        free(self.holders)
        free(self.candidates)
        free(self.holders_in_reach)
        free(self.holds)
        free(self.disks)
        free(self.demand)

    cdef void cover(self) noexcept nogil:
        """Choose the holders of a title by `demand` and `price`, and who serves each audience."""
        cdef uint32_t i, j, audience, exchange
        cdef int best, kept, index
        cdef double ratio, best_ratio
        self.holder_count = self.candidate_count = 0
        memset(self.gain, 0, self.exchanges * sizeof(double))
        memset(self.holds, 0, self.exchanges)
        for audience in range(<uint32_t> self.audiences):
            self.holders_in_reach[audience] = 0
            if self.demand[audience] > 0:
                for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                    self.gain[self.reach[i]] += self.demand[audience]
        for exchange in range(<uint32_t> self.exchanges):
            if self.gain[exchange] > self.price[exchange]:
                self.candidates[self.candidate_count] = exchange
                self.candidate_count += 1
        while True:
            best, best_ratio, kept = -1, 0, 0
            for index in range(self.candidate_count):  # gains only fall, so an exchange that drops out stays out
                exchange = self.candidates[index]
                if self.gain[exchange] <= self.price[exchange] or self.holds[exchange]:
                    continue
                self.candidates[kept] = exchange
                kept += 1
                ratio = self.gain[exchange] / self.price[exchange] if self.price[exchange] > 0 else INFINITY
                if ratio > best_ratio:
                    best, best_ratio = exchange, ratio
            self.candidate_count = kept
            if best < 0:
                break
            self.holders[self.holder_count] = best
            self.holder_count += 1
            self.holds[best] = 1
            for i in range(self.served_first[best], self.served_first[best + 1]):
                audience = self.served[i]
                self.holders_in_reach[audience] += 1
                if self.holders_in_reach[audience] == 1 and self.demand[audience] > 0:
                    for j in range(self.reach_first[audience], self.reach_first[audience + 1]):
                        self.gain[self.reach[j]] -= self.demand[audience]
        self.drop_needless()

    cdef void drop_needless(self) noexcept nogil:
        """Take back holders without which less demand is lost than their price, and set `by_exchange`."""
        cdef uint32_t i, audience, exchange
        cdef int position = 0
        cdef double lost
        while position < self.holder_count:
            exchange = self.holders[position]
            lost = 0
            for i in range(self.served_first[exchange], self.served_first[exchange + 1]):
                if self.holders_in_reach[self.served[i]] == 1:
                    lost += self.demand[self.served[i]]
            if lost >= self.price[exchange]:
                position += 1
                continue
            for i in range(self.served_first[exchange], self.served_first[exchange + 1]):
                self.holders_in_reach[self.served[i]] -= 1
            self.holds[exchange] = 0
            self.holder_count -= 1
            self.holders[position] = self.holders[self.holder_count]
        for audience in range(<uint32_t> self.audiences):
            self.by_exchange[audience] = self.exchanges
            if self.holders_in_reach[audience]:
                for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                    if self.holds[self.reach[i]]:
                        self.by_exchange[audience] = self.reach[i]
                        break

    cdef void share_prices(self) noexcept nogil:
        """Charge each audience its share of the prices, so that no exchange receives more than its price.

        `spare` is demand that partners serve already; it may be charged what is left, and then bounds less.
        """
        cdef uint32_t i, audience, exchange
        cdef double factor
        memset(self.gain, 0, self.exchanges * sizeof(double))  # the demand that an exchange serves
        for audience in range(<uint32_t> self.audiences):
            if self.by_exchange[audience] < <uint32_t> self.exchanges:
                self.gain[self.by_exchange[audience]] += self.demand[audience]
        memset(self.paid, 0, self.exchanges * sizeof(double))
        for audience in range(<uint32_t> self.audiences):
            self.charge[audience] = self.demand[audience]
            exchange = self.by_exchange[audience]
            if exchange < <uint32_t> self.exchanges and self.gain[exchange] > self.price[exchange]:
                self.charge[audience] *= self.price[exchange] / self.gain[exchange]
            for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                self.paid[self.reach[i]] += self.charge[audience]
        for audience in range(<uint32_t> self.audiences):
            factor = 1
            for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                exchange = self.reach[i]
                if self.paid[exchange] > self.price[exchange]:
                    factor = min(factor, self.price[exchange] / self.paid[exchange])
            self.charge[audience] *= factor
        memset(self.paid, 0, self.exchanges * sizeof(double))
        for audience in range(<uint32_t> self.audiences):
            for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                self.paid[self.reach[i]] += self.charge[audience]
        for audience in range(<uint32_t> self.audiences):
            self.charge[audience] += self.raise_by(audience, self.demand[audience] - self.charge[audience])
        for audience in range(<uint32_t> self.audiences):
            self.spare_charge[audience] = self.raise_by(audience, self.spare[audience])

    cdef double raise_by(self, uint32_t audience, double most) noexcept nogil:
        """Charge an audience at most so much more, as every exchange in its reach has left; return how much."""
        cdef uint32_t i
        for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
            most = min(most, self.price[self.reach[i]] - self.paid[self.reach[i]])
        if most <= 0:
            return 0
        for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
            self.paid[self.reach[i]] += most
        return most

    cdef void read(self, const float[:, ::1] demand, const float[:, ::1] spare, Py_ssize_t title) noexcept nogil:
        """Take the demand of a title by audience."""
        cdef int audience
        for audience in range(self.audiences):
            self.demand[audience] = demand[audience, title]
            self.spare[audience] = spare[audience, title] if spare is not None else 0

    def solve(self, const float[:, ::1] demand not None, const double[::1] sizes not None, prices, int rounds,
              double weight):
        """Return the prices at which a sample of titles fills the disks, after so many trials.

        `demand` is by audience and title of the sample, each of which stands for `weight` titles.
        """
        cdef int trial, exchange
        cdef Py_ssize_t title
        cdef double step = 0.5 if prices is None else 0.1, change
        cdef double* mean = <double*> malloc((self.exchanges + 1) * sizeof(double))
        cdef double counted = 0
        if mean == NULL:
            raise MemoryError
        memset(mean, 0, self.exchanges * sizeof(double))
        for exchange in range(self.exchanges):
            self.price[exchange] = prices[exchange] if prices is not None else 0
        try:
            if prices is None:
                self.first_prices(demand, sizes, weight)
            with nogil:
                for trial in range(rounds):
                    memset(self.used, 0, self.exchanges * sizeof(double))
                    for title in range(sizes.shape[0]):
                        self.read(demand, None, title)
                        self.cover()
                        for exchange in range(self.holder_count):
                            self.used[self.holders[exchange]] += sizes[title]
                    if trial * 2 >= rounds:  # prices swing about the best ones: the mean of the later half is nearer
                        counted += 1
                        for exchange in range(self.exchanges):
                            mean[exchange] += self.price[exchange]
                    for exchange in range(self.exchanges):
                        change = pow(max(weight * self.used[exchange], 1) / max(self.disks[exchange], 1), step)
                        self.price[exchange] *= min(max(change, 0.5), 2.0)
                    step = max(step * 0.9, 0.02)
            return [mean[exchange] / counted if counted else self.price[exchange] for exchange in range(self.exchanges)]
        finally:
            free(mean)

    cdef int first_prices(self, const float[:, ::1] demand, const double[::1] sizes, double weight) except -1:
        """Begin with the demand, all in reach, of the last title that would fit if every exchange stood alone."""
        cdef int exchange
        cdef Py_ssize_t title
        cdef uint32_t i
        for exchange in range(self.exchanges):
            rows = []
            for title in range(sizes.shape[0]):
                total = 0.0
                for i in range(self.served_first[exchange], self.served_first[exchange + 1]):
                    total += demand[self.served[i], title]
                rows.append((-total, sizes[title]))
            rows.sort()
            room = self.disks[exchange] / weight
            self.price[exchange] = 0
            for total, size in rows:
                room -= size
                if room < 0:
                    self.price[exchange] = -total / 3  # others share its audiences
                    break
        return 0

    def start(self, prices not None):
        """Begin an assignment with empty disks, at these prices."""
        cdef int exchange
        for exchange in range(self.exchanges):
            self.price[exchange] = prices[exchange]
            self.room[exchange] = self.disks[exchange]

    def assign(self, const float[:, ::1] demand not None, const double[::1] sizes not None, prices not None,
               uint8_t[:, ::1] copies not None):
        """Choose the holders of titles, the most wanted first, into `copies`: a row of exchanges a title.

        Return the demand served. Called with the rest of the titles in turn after `start`.
        """
        cdef double value = 0, mean, tight
        cdef Py_ssize_t title
        cdef int exchange, position
        cdef double* original = <double*> malloc((self.exchanges + 1) * sizeof(double))
        if original == NULL:
            raise MemoryError
        for exchange in range(self.exchanges):
            original[exchange] = prices[exchange]
        with nogil:
            for title in range(sizes.shape[0]):
                mean = 0
                for exchange in range(self.exchanges):
                    mean += self.room[exchange] / max(self.disks[exchange], 1) / self.exchanges
                for exchange in range(self.exchanges):
                    copies[title, exchange] = 0
                    if self.room[exchange] < sizes[title]:
                        self.price[exchange] = 1e300
                        continue
                    tight = mean - self.room[exchange] / max(self.disks[exchange], 1)
                    self.price[exchange] = original[exchange] * TIGHTER * (1 + EVEN * tight)
                self.read(demand, None, title)
                self.cover()
                for position in range(self.holder_count):
                    exchange = self.holders[position]
                    copies[title, exchange] = 1
                    self.room[exchange] -= sizes[title]
                value += sizes[title] * self.served_by(&copies[title, 0])
        free(original)
        return value

    def value(self, const float[:, ::1] demand not None, const double[::1] sizes not None,
              const uint8_t[:, ::1] copies not None):
        """Return the demand that these holders serve, in bytes."""
        cdef double value = 0
        cdef Py_ssize_t title
        with nogil:
            for title in range(sizes.shape[0]):
                self.read(demand, None, title)
                value += sizes[title] * self.served_by(&copies[title, 0])
        return value

    def top_up(self, const float[:, ::1] demand not None, const double[::1] sizes not None, double share,
               prices not None, uint8_t[:, ::1] copies not None):
        """Add holders that serve more for at least `share` of their price where there is room; return the gain."""
        cdef double value = 0, gain
        cdef Py_ssize_t title
        cdef int exchange
        cdef uint32_t i, j, audience
        for exchange in range(self.exchanges):
            self.price[exchange] = prices[exchange]
        with nogil:
            for title in range(sizes.shape[0]):
                for exchange in range(self.exchanges):
                    if copies[title, exchange] or self.room[exchange] < sizes[title]:
                        continue
                    gain = 0
                    for i in range(self.served_first[exchange], self.served_first[exchange + 1]):
                        audience = self.served[i]
                        if demand[audience, title] <= 0:
                            continue
                        for j in range(self.reach_first[audience], self.reach_first[audience + 1]):
                            if copies[title, self.reach[j]]:
                                break
                        else:
                            gain += demand[audience, title]
                    if gain > 0 and gain >= share * self.price[exchange]:
                        copies[title, exchange] = 1
                        self.room[exchange] -= sizes[title]
                        value += sizes[title] * gain
        return value

    def room_share(self):
        """Return the share of all disks that is free."""
        cdef double room = 0, disks = 0
        cdef int exchange
        for exchange in range(self.exchanges):
            room += self.room[exchange]
            disks += self.disks[exchange]
        return room / disks if disks > 0 else 0.0

    def plays(self, const float[:, ::1] demand not None, const uint8_t[:, ::1] copies not None,
              double[:, ::1] plays not None):
        """Add the demand of titles to the first exchange in reach of each audience that holds the title."""
        cdef Py_ssize_t title
        cdef int audience
        cdef uint32_t i
        with nogil:
            for title in range(demand.shape[1]):
                for audience in range(self.audiences):
                    for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                        if copies[title, self.reach[i]]:
                            plays[title, self.reach[i]] += demand[audience, title]
                            break

    cdef double served_by(self, const uint8_t* copies) noexcept nogil:
        """Return the demand of the audiences that these holders reach."""
        cdef double value = 0
        cdef int audience
        cdef uint32_t i
        for audience in range(self.audiences):
            if self.demand[audience] <= 0:
                continue
            for i in range(self.reach_first[audience], self.reach_first[audience + 1]):
                if copies[self.reach[i]]:
                    value += self.demand[audience]
                    break
        return value

    def prove(self, const float[:, ::1] demand not None, const float[:, ::1] spare not None, prices not None,
              float[:, ::1] shares not None, float[:, ::1] spare_shares not None):
        """Fill the shares of demand that exchanges are worth at most at these prices.

        `shares` are of `demand`, `spare_shares` of `spare`, which partners serve already.
        """
        cdef Py_ssize_t title
        cdef int audience, exchange
        for exchange in range(self.exchanges):
            self.price[exchange] = prices[exchange]
        with nogil:
            for title in range(demand.shape[1]):
                self.read(demand, spare, title)
                self.cover()
                self.share_prices()
                for audience in range(self.audiences):
                    shares[audience, title] = 0
                    if self.demand[audience] > 0:
                        shares[audience, title] = <float> (1 - self.charge[audience] / self.demand[audience])
                    spare_shares[audience, title] = 0
                    if self.spare[audience] > 0:
                        spare_shares[audience, title] = <float> (1 - self.spare_charge[audience] / self.spare[audience])
