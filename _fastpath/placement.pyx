# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which titles the clusters of one partner hold: prices of disk by Lagrangian relaxation, in closed form by title.

A *group* is the clusters of a partner that back each other up. Its viewers watch by one list of plays. A set of its
clusters that holds a title serves a weight of the viewers, each with the best gain in the set:

    value(title, set) = plays * bytes * weight[set]        the weight of no cluster is what exchanges serve instead

With a price for a byte of disk in each cluster, a title's best set depends on its plays alone: each set is a line in
plays, of slope `weight` and intercept minus the sum of its prices, and the best sets are the upper envelope of these
lines. So one trial of prices takes a few binary searches in sums over the titles, whatever their number. Any prices
give an upper bound of the value: what the titles gain at these prices, and the prices times the disks.

    Applegate et al., Optimal content placement for a large-scale VoD system, CoNEXT 2010

Further copies inside a cluster are worth a share of its own viewers' bytes: the chance that the first copy is out.
"""

from libc.math cimport INFINITY, pow
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc

from _fastpath.title_list cimport C_LEVELS, TitleList, at_least, at_most

MOST_CLUSTERS = 16  # of a group: a set is a bit mask

cdef enum:
    C_MOST_CLUSTERS = 16
    MOST_CANDIDATES = 256  # sets that `assign` chooses from
    SPAN = 64  # titles that are assigned between two corrections of the prices
    ADDITIONAL = 2  # copies beyond the first

# What the second and the third copy are worth: the chance that those before are out or busy.
SHARES = (0.05, 0.005)
cdef double[2] C_SHARES = (0.05, 0.005)

cdef double TIGHTER = 0.99  # prices while titles are assigned, so that disks are full before the list ends
cdef double EVEN = 0.02  # most that a price is corrected while its disk fills faster than the others
cdef double NEAR = 0.03  # sets whose value is so near the best one's are candidates
cdef double[4] TOP_UP = (0.9, 0.7, 0.4, 0.0)


cdef struct line:
    double weight
    double price
    uint32_t clusters


cdef class SiteGroup:
    """The clusters of a partner. `viewers` are (volume, gains by cluster), with gains from 0 to 1; `disks` in bytes.

    `own` is the volume of viewers for whom a cluster is the nearest, and `appliances` how many it has. A level is a
    share `level * most_elsewhere / (LEVELS - 1)` of the viewers' bytes that exchanges serve. Raises ValueError.
    """

    cdef readonly int clusters
    cdef readonly double volume
    cdef readonly double most_elsewhere
    cdef uint32_t sets
    cdef line* lines  # by weight, lowest first
    cdef double* weights  # by set
    cdef double* prices_of  # by set
    cdef uint32_t* hull
    cdef double* bars  # plays from which each line of the hull is best
    cdef double[C_MOST_CLUSTERS] disks
    cdef double[C_MOST_CLUSTERS] own
    cdef int[C_MOST_CLUSTERS] most_copies
    cdef double[C_MOST_CLUSTERS] prices
    cdef double[C_MOST_CLUSTERS] used

    def __cinit__(self, viewers not None, disks not None, own not None, appliances not None, double most_elsewhere):
        cdef uint32_t members
        cdef int i, number
        cdef double best
        self.clusters = len(disks)
        if not 0 < self.clusters <= C_MOST_CLUSTERS or not len(own) == len(appliances) == self.clusters:
            raise ValueError(f"{self.clusters} clusters; a group has 1 to {C_MOST_CLUSTERS}, each with all values")
        self.sets = <uint32_t> 1 << self.clusters
        self.most_elsewhere = most_elsewhere
        self.weights = <double*> malloc(self.sets * sizeof(double))
        self.prices_of = <double*> malloc(self.sets * sizeof(double))
        self.lines = <line*> malloc(self.sets * sizeof(line))
        self.hull = <uint32_t*> malloc((self.sets + 1) * sizeof(uint32_t))
        self.bars = <double*> malloc((self.sets + 1) * sizeof(double))
        if NULL in (self.weights, self.prices_of, self.lines, self.hull, self.bars):
            raise MemoryError
        for i in range(self.clusters):
            self.disks[i], self.own[i] = disks[i], own[i]
            self.most_copies[i] = min(appliances[i], 1 + ADDITIONAL)
            self.prices[i] = 0
        self.volume = sum([volume for volume, _ in viewers])
        for members in range(self.sets):
            self.weights[members] = 0
        for volume, gains in viewers:
            if len(gains) != self.clusters or not all([0 <= gain <= 1 for gain in gains]):
                raise ValueError(f"gains {gains}: {self.clusters} numbers from 0 to 1")
            for members in range(1, self.sets):
                best = 0
                for number in range(self.clusters):
                    if members >> number & 1:
                        best = max(best, gains[number])
                self.weights[members] += <double> volume * best
        for i, members in enumerate(sorted(range(1, self.sets), key=lambda members: self.weights[members])):
            self.lines[i] = line(self.weights[members], 0, members)

    def __dealloc__(self):
        free(self.weights)
        free(self.prices_of)
        free(self.lines)
        free(self.hull)
        free(self.bars)

    cdef void set_prices(self) noexcept nogil:
        """Add up the prices of each set."""
        cdef uint32_t members, i
        cdef int number
        self.prices_of[0] = 0
        for number in range(self.clusters):
            for members in range(<uint32_t> 1 << number):
                self.prices_of[members | <uint32_t> 1 << number] = self.prices_of[members] + self.prices[number]
        for i in range(self.sets - 1):
            self.lines[i].price = self.prices_of[self.lines[i].clusters]

    cdef uint32_t make_hull(self, double elsewhere) noexcept nogil:
        """Fill `hull` with the best sets by rising plays, and `bars`; the first is the empty set. Return how many.

        `elsewhere` is the weight of the viewers whom exchanges serve without the group.
        """
        cdef uint32_t size = 1, i, last
        cdef double slope, price, crossing
        self.hull[0], self.bars[0] = 0, 0
        for i in range(self.sets - 1):
            slope, price = self.lines[i].weight, self.lines[i].price
            while True:
                last = self.hull[size - 1]
                crossing = slope - (self.weights[last] if last else elsewhere)
                if crossing <= 0:
                    # Lines come by rising weight, so the weights are equal, or the empty set serves as much.
                    if last == 0 or price >= self.prices_of[last]:
                        break
                    size -= 1
                    continue
                crossing = (price - self.prices_of[last]) / crossing
                if size > 1 and crossing <= self.bars[size - 1]:
                    size -= 1
                    continue
                self.hull[size], self.bars[size] = self.lines[i].clusters, max(crossing, 0)
                size += 1
                break
        return size

    cdef double try_prices(self, TitleList titles) noexcept nogil:
        """Return the upper bound by these prices; `used` has the bytes that titles would take in each cluster."""
        cdef double bound = 0, size, elsewhere
        cdef uint32_t lines, i
        cdef Py_ssize_t count, begin, end, first
        cdef int level, number
        self.set_prices()
        for number in range(self.clusters):
            self.used[number] = 0
            bound += self.prices[number] * self.disks[number]
            bound += self.try_copies(titles, number)
        for level in range(C_LEVELS):
            first = titles.level_first[level]
            count = titles.level_first[level + 1] - first
            if count == 0:
                continue
            elsewhere = self.elsewhere(level)
            lines = self.make_hull(elsewhere)
            begin = 0
            for i in range(lines - 1, -1, -1):
                end = at_least(titles.level_plays + first, count, self.bars[i]) if i else count
                if end <= begin:
                    continue
                size = titles.level_bytes[first + level + end] - titles.level_bytes[first + level + begin]
                bound += (titles.level_value[first + level + end] - titles.level_value[first + level + begin]) * (
                    self.weights[self.hull[i]] if self.hull[i] else elsewhere
                ) - self.prices_of[self.hull[i]] * size
                for number in range(self.clusters):
                    if self.hull[i] >> number & 1:
                        self.used[number] += size
                begin = end
        return bound

    cdef double elsewhere(self, int level) noexcept nogil:
        """Return the weight of what exchanges serve of a title of this level."""
        return self.volume * self.most_elsewhere * level / (C_LEVELS - 1)

    cdef double try_copies(self, TitleList titles, int number) noexcept nogil:
        """Add the bytes of further copies in a cluster to `used`; return what they are worth beyond their price."""
        cdef double gain = 0, share
        cdef Py_ssize_t count
        cdef int copy
        for copy in range(self.most_copies[number] - 1):
            share = C_SHARES[copy] * self.own[number]
            if share <= 0:
                break
            count = at_least(titles.plays, titles.count, self.prices[number] / share)
            self.used[number] += titles.all_bytes[count]
            gain += share * titles.all_value[count] - self.prices[number] * titles.all_bytes[count]
        return gain

    def solve(self, TitleList titles not None, prices, int rounds):
        """Return (prices by cluster, upper bound) of the best of so many trials, the first with `prices`.

        Without prices the first are the plays of the last title that would fit into each cluster alone.
        """
        cdef double[C_MOST_CLUSTERS] best_prices
        cdef double best = INFINITY, bound, step = 0.5, change
        cdef int number
        cdef Py_ssize_t last
        if prices is not None and len(prices) != self.clusters:
            raise ValueError(f"{len(prices)} prices for {self.clusters} clusters")
        for number in range(self.clusters):
            if prices is not None:
                self.prices[number] = prices[number]
                continue
            last = at_most(titles.all_bytes, titles.count, self.disks[number])
            self.prices[number] = titles.plays[last] * self.own_or_mean(number) if last < titles.count else 0
        if prices is not None:
            step = 0.05
        with nogil:
            for _ in range(max(rounds, 1)):
                bound = self.try_prices(titles)
                if bound < best:
                    best = bound
                    best_prices = self.prices
                for number in range(self.clusters):
                    if self.disks[number] <= 0:
                        change = 2
                    else:
                        change = pow(max(self.used[number], 1) / self.disks[number], step)
                    self.prices[number] *= min(max(change, 0.5), 2.0)
                    if self.prices[number] == 0 and self.used[number] > self.disks[number]:
                        self.prices[number] = 1e-9 * titles.plays[0] * self.volume
                step = max(step * 0.94, 0.002)
        self.prices = best_prices
        return [self.prices[number] for number in range(self.clusters)], best

    cdef double own_or_mean(self, int number) noexcept:
        return self.own[number] if self.own[number] > 0 else self.volume / self.clusters

    def bound(self, TitleList titles not None, prices):
        """Return the upper bound of the group's value that these prices prove."""
        for number in range(self.clusters):
            self.prices[number] = prices[number]
        return self.try_prices(titles)

    def assign(
        self, TitleList titles not None, prices, const double[::1] reserved, const uint16_t[::1] held, double margin,
        uint16_t[::1] sets not None, uint8_t[:, ::1] copies not None,
    ):
        """Choose a set of clusters for each title, into `sets`, and its copies by cluster, into `copies`.

        `reserved` are bytes of each disk that stay free. A cluster that holds a title in `held` gets a discount of
        `margin` of its price. Return the value of the group's viewers, and of further copies.
        """
        cdef uint32_t candidate_count
        cdef uint32_t* candidates = <uint32_t*> malloc((MOST_CANDIDATES + C_LEVELS * 2 + 1) * sizeof(uint32_t))
        cdef double[C_MOST_CLUSTERS] room
        cdef double value
        cdef int number
        if candidates == NULL:
            raise MemoryError
        if sets.shape[0] != titles.count or copies.shape[0] != titles.count or copies.shape[1] != self.clusters or (
            held is not None and held.shape[0] != titles.count
        ):
            raise ValueError("sets, copies and held need a place for each title")
        for number in range(self.clusters):
            self.prices[number] = prices[number]
            room[number] = self.disks[number] - (reserved[number] if reserved is not None else 0)
        try:
            with nogil:
                self.set_prices()
                candidate_count = self.find_candidates(titles, candidates)
                self.walk(titles, candidates, candidate_count, held, margin, room, sets, copies)
                self.top_up(titles, room, sets, copies)
                value = self.value_of(titles, sets, copies)
        finally:
            free(candidates)
        return value

    def first_copies(self, TitleList titles not None, const uint16_t[::1] sets not None):
        """Return (value, bytes by cluster) of sets with one copy in each of their clusters."""
        cdef double value = 0
        cdef double[C_MOST_CLUSTERS] used
        cdef Py_ssize_t i
        cdef int number
        if sets.shape[0] != titles.count:
            raise ValueError("sets need a place for each title")
        for number in range(self.clusters):
            used[number] = 0
        for i in range(titles.count):
            if sets[i] >= self.sets:
                raise ValueError(f"title {i}: set {sets[i]} of {self.clusters} clusters")
            value += titles.plays[i] * titles.sizes[i] * (
                self.weights[sets[i]] if sets[i] else self.elsewhere(titles.levels[i]))
            for number in range(self.clusters):
                if sets[i] >> number & 1:
                    used[number] += titles.sizes[i]
        return value, [used[number] for number in range(self.clusters)]

    cdef uint32_t find_candidates(self, TitleList titles, uint32_t* candidates) noexcept nogil:
        """Return how many sets are near the best one for some title, and the sets; the empty set is the first."""
        cdef uint32_t count = 1, lines, i, j
        cdef double plays, best, value
        cdef bint near
        candidates[0] = 0
        lines = self.make_hull(0)
        for j in range(self.sets - 1):
            near = False
            for i in range(1, lines):
                plays = self.bars[i]
                best = plays * self.weights[self.hull[i]] - self.prices_of[self.hull[i]]
                value = plays * self.lines[j].weight - self.lines[j].price
                if self.hull[i] == self.lines[j].clusters or value >= best - NEAR * plays * self.weights[self.hull[i]]:
                    near = True
                    break
            if near and count < MOST_CANDIDATES:
                candidates[count] = self.lines[j].clusters
                count += 1
        return count

    cdef void walk(
        self, TitleList titles, const uint32_t* candidates, uint32_t candidate_count, const uint16_t[::1] held,
        double margin, double* room, uint16_t[::1] sets, uint8_t[:, ::1] copies,
    ) noexcept nogil:
        """Assign titles, most played first, at prices that keep the disks filling evenly."""
        cdef double[MOST_CANDIDATES] weight, price
        cdef uint32_t[MOST_CANDIDATES] likely
        cdef uint32_t likely_count = 0
        cdef double[C_MOST_CLUSTERS] original, corrected
        cdef double best, value, plays, size, mean, empty
        cdef uint32_t chosen, members, j, index
        cdef Py_ssize_t i
        cdef int number
        original = self.prices
        sets[:] = 0
        copies[:, :] = 0
        for j in range(candidate_count):
            weight[j] = self.weights[candidates[j]]
        for i in range(titles.count):
            if i % SPAN == 0:
                mean = 0
                for number in range(self.clusters):
                    corrected[number] = room[number] / self.disks[number] if self.disks[number] > 0 else 0
                    mean += corrected[number] / self.clusters
                for number in range(self.clusters):
                    corrected[number] = TIGHTER * original[number] * (1 + EVEN * (mean - corrected[number]))
                for j in range(candidate_count):
                    price[j] = 0
                    for number in range(self.clusters):
                        if candidates[j] >> number & 1:
                            price[j] += corrected[number]
                if is_too_little(titles.plays[i], weight, price, candidate_count, 1 - 2 * (EVEN + margin)):
                    break  # nor will fewer plays, at corrected prices
                likely_count = choose_likely(
                    titles.plays[i], titles.plays[min(i + SPAN, titles.count) - 1], weight, price, candidate_count,
                    NEAR + margin, likely)
            plays, size = titles.plays[i], titles.sizes[i]
            empty = plays * self.elsewhere(titles.levels[i])
            best, chosen = empty, 0
            for index in range(likely_count):
                j = likely[index]
                value = plays * weight[j] - price[j]
                if held is not None and held[i]:
                    value += margin * self.prices_of[candidates[j] & held[i]]
                if value > best:
                    best, chosen = value, candidates[j]
            members = 0
            for number in range(self.clusters):
                if chosen >> number & 1 and size <= room[number]:
                    members |= <uint32_t> 1 << number
                    room[number] -= size
                    copies[i, number] = 1
                    self.add_copies(plays, size, number, room, &copies[i, number])
            sets[i] = <uint16_t> members

    cdef void add_copies(self, double plays, double size, int number, double* room, uint8_t* copies) noexcept nogil:
        """Add the further copies that are worth their price and fit."""
        cdef int copy
        for copy in range(self.most_copies[number] - 1):
            if C_SHARES[copy] * self.own[number] * plays < self.prices[number] or size > room[number]:
                break
            room[number] -= size
            copies[0] += 1

    cdef void top_up(self, TitleList titles, double* room, uint16_t[::1] sets, uint8_t[:, ::1] copies) noexcept nogil:
        """Fill what room is left with the titles that gain most there, at ever lower prices."""
        cdef Py_ssize_t i
        cdef int number, step
        cdef double before, gain, least
        for step in range(4):
            for number in range(self.clusters):
                least = TOP_UP[step] * self.prices[number]
                for i in range(titles.count):
                    # A cluster gains most where no other one holds the title.
                    if room[number] < titles.smallest or titles.plays[i] * self.weights[<uint32_t> 1 << number] < least:
                        break
                    if sets[i] >> number & 1 or titles.sizes[i] > room[number]:
                        continue
                    before = self.weights[sets[i]] if sets[i] else self.elsewhere(titles.levels[i])
                    gain = (self.weights[sets[i] | <uint32_t> 1 << number] - before) * titles.plays[i]
                    if gain <= 0 or gain < least:
                        continue
                    sets[i] = <uint16_t> (sets[i] | <uint32_t> 1 << number)
                    copies[i, number] = 1
                    room[number] -= titles.sizes[i]

    cdef double value_of(self, TitleList titles, const uint16_t[::1] sets, const uint8_t[:, ::1] copies) noexcept nogil:
        """Return what the sets serve, without exchanges, and what further copies are worth."""
        cdef double value = 0, weight
        cdef Py_ssize_t i
        cdef int number, copy
        for i in range(titles.count):
            if sets[i] == 0:
                continue
            weight = self.weights[sets[i]]
            for number in range(self.clusters):
                for copy in range(copies[i, number] - 1):
                    if copy < ADDITIONAL:
                        weight += C_SHARES[copy] * self.own[number]
            value += titles.plays[i] * titles.sizes[i] * weight
        return value


cdef bint is_too_little(
    double plays, const double* weight, const double* price, uint32_t count, double share
) noexcept nogil:
    """Return whether so many plays gain less than a share of its price in each candidate."""
    cdef uint32_t j
    for j in range(1, count):
        if plays * weight[j] > share * price[j]:
            return False
    return True


cdef uint32_t choose_likely(
    double most, double least, const double* weight, const double* price, uint32_t count, double near, uint32_t* likely
) noexcept nogil:
    """Fill the candidates that are near the best one for titles of so many plays; return how many."""
    cdef double best_most = 0, best_least = 0
    cdef uint32_t j, chosen = 0
    for j in range(1, count):
        best_most = max(best_most, most * weight[j] - price[j])
        best_least = max(best_least, least * weight[j] - price[j])
    for j in range(1, count):
        if most * weight[j] - price[j] >= best_most - near * most * weight[j] or (
            least * weight[j] - price[j] >= best_least - near * least * weight[j]
        ):
            likely[chosen] = j
            chosen += 1
    return chosen
