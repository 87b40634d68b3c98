# cython: wraparound=False, initializedcheck=False, cdivision=True
"""Rankings: for each (chain of covering prefixes, region) its clusters, in order of preference by the ranking policy.

Every route on every covering prefix makes its cluster a candidate. A candidate's key is a number for each key of the
policy, in the policy's order, lower is better: `prefix`, how many covering prefixes are longer; `distance` in steps;
any other is an attribute of the route. A cluster with several routes keeps its best one. A route
that excludes its cluster keeps it out, unless a longer prefix adds it. Clusters are sorted by key; equal keys share a
rank. The region's fallback clusters follow, by distance. Each rank has a price, by class and distance of its cheapest
cluster, and never less than the rank before it: the policy decides the order. Equal rankings are stored once.
"""

from array import array

cimport cython
from cpython cimport array as c_array
from libc.math cimport acos
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memset

from _fastpath.intervals cimport Pairs
from _fastpath.prefix_rows cimport zeros
from _fastpath.ranking cimport C_FALLBACK, C_RANK
from _fastpath.ranking_prices cimport PRICE_SHIFT
from _fastpath.status_words cimport C_MOST_PRESSURE

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG

cdef double EARTH_RADIUS = EARTH_RADIUS_KM
cdef enum:
    MAX_KEYS = 8
    MOST_PRICE = C_MOST_PRESSURE - 1  # below the fallback's
    NO_STEP = 0xFFFFFFFF  # above any distance step and any depth
    EXCLUDED = 0xFFFFFFFF  # in place of an index


cdef struct ranking_entry:
    uint32_t key[MAX_KEYS]  # in the policy's order; 0 behind its last
    uint32_t cluster
    uint32_t depth      # how many covering prefixes are longer


cdef int compare_ranking_entries(const void* left, const void* right) noexcept nogil:
    cdef const ranking_entry* a = <const ranking_entry*> left
    cdef const ranking_entry* b = <const ranking_entry*> right
    cdef int order = compare_keys(a, b)
    return order if order else (a.cluster > b.cluster) - (a.cluster < b.cluster)


cdef inline int compare_keys(const ranking_entry* a, const ranking_entry* b) noexcept nogil:
    cdef int i
    for i in range(MAX_KEYS):
        if a.key[i] != b.key[i]:
            return -1 if a.key[i] < b.key[i] else 1
    return 0


class Rankings:
    """Distinct rankings, and which one each (chain, region) has.

    `ranking_entries` (I) is cluster and rank word in turn: 15 bits of rank, FALLBACK if the cluster has no route, and
    16 bits of price, of which the fallback's is 192. `first` (I, one more than there are rankings) is the ranking entry
    at which each ranking begins. `ranking` and `partner` (I) are by (chain, region): the ranking's number, and the
    partner with the longest prefix.
    """

    __slots__ = ("first", "partner", "ranking", "ranking_entries")


@cython.final
cdef class RankingBuilder:
    """The inputs of all rankings, and room for the one being made."""

    cdef dict routes                         # columns by name; `columns` points into them
    cdef const uint32_t[::1] cluster         # by route
    cdef const uint32_t[::1] partners        # by cluster
    cdef const double[::1] cluster_vectors, region_vectors
    cdef const double[::1] prices            # by cluster; then that of one without a route, then that of 1000 km
    cdef double step_km
    cdef const uint32_t* columns[MAX_KEYS]   # by key of the policy; NULL for prefix and distance
    cdef const uint32_t[::1] excludes        # by route: whether it keeps its cluster away from the prefix
    cdef bint any_excludes
    cdef Py_ssize_t keys, distance_key, count
    cdef uint32_t region, stamp  # of the (chain, region) whose ranking is being made
    cdef ranking_entry* entries
    cdef uint32_t* stamp_of   # by cluster: the stamp of the ranking that it was added to last
    cdef uint32_t* index_of   # by cluster: its index in that ranking
    cdef c_array.array out
    cdef uint32_t* steps      # of `out`: cluster and rank in turn

    def __cinit__(
        self, dict routes, cluster_vectors, cluster_partners, region_vectors, prices, tuple policy, double step_km
    ):
        cdef Py_ssize_t clusters = len(cluster_partners), i
        self.routes, self.cluster, self.partners = routes, routes["cluster"], cluster_partners
        self.cluster_vectors, self.region_vectors = cluster_vectors, region_vectors
        self.prices, self.step_km, self.keys = prices, step_km, len(policy)
        if self.keys > MAX_KEYS:
            raise ValueError(f"a policy has at most {MAX_KEYS} keys, not {self.keys}")
        if self.cluster_vectors.shape[0] != 3 * clusters or self.region_vectors.shape[0] % 3:
            raise ValueError(f"vectors are three doubles each, for all {clusters} clusters and every region")
        if self.prices.shape[0] != clusters + 2:
            raise ValueError(f"{self.prices.shape[0]} prices; {clusters} clusters and two more have one")
        for i in range(self.cluster.shape[0]):
            if self.cluster[i] >= clusters:
                raise ValueError(f"route {i} names cluster {self.cluster[i]}, there are {clusters}")
        if any([len(column) != self.cluster.shape[0] or column.typecode != "I" for column in routes.values()]):
            raise ValueError("columns are arrays of I, of one length")
        self.distance_key = policy.index("distance") if "distance" in policy else -1
        for i in range(self.keys):
            if policy[i] not in ("prefix", "distance"):
                self.columns[i] = (<c_array.array?> routes[policy[i]]).data.as_uints
        self.excludes, self.any_excludes = routes["excludes"], any(routes["excludes"])
        self.out = zeros("I", 2 * clusters + 2)
        self.steps = self.out.data.as_uints
        self.entries = <ranking_entry*> malloc((clusters + 1) * sizeof(ranking_entry))
        self.stamp_of = <uint32_t*> calloc(2 * clusters + 1, sizeof(uint32_t))
        if self.entries == NULL or self.stamp_of == NULL:
            raise MemoryError
        self.index_of = self.stamp_of + clusters

    def __dealloc__(self):
        free(self.entries)
        free(self.stamp_of)

    cdef int begin(self, uint32_t region) except -1:
        if 3 * <Py_ssize_t> region >= self.region_vectors.shape[0]:
            raise IndexError(f"region {region} has no vector")
        self.region = region
        self.stamp += 1
        self.count = 0
        return 0

    @cython.boundscheck(False)  # the route is checked here, its cluster when the builder is made, the region by begin
    cdef int add_route(self, uint32_t route, uint32_t depth) except -1:
        """Make a route's cluster a candidate, or replace the candidate if this route is better."""
        cdef ranking_entry entry
        cdef uint32_t cluster
        cdef Py_ssize_t i
        if route >= self.cluster.shape[0]:
            raise IndexError(f"a set names route {route}, there are {self.cluster.shape[0]}")
        if self.excludes[route]:
            return 0
        cluster = self.cluster[route]
        memset(&entry, 0, sizeof(ranking_entry))
        for i in range(self.keys):
            if self.columns[i] != NULL:
                entry.key[i] = self.columns[i][route]
            else:
                entry.key[i] = self.distance_step(cluster) if i == self.distance_key else depth
        entry.cluster, entry.depth = cluster, depth
        if self.stamp_of[cluster] != self.stamp:
            self.stamp_of[cluster] = self.stamp
            self.index_of[cluster] = <uint32_t> self.count
            self.entries[self.count] = entry
            self.count += 1
        elif self.index_of[cluster] != EXCLUDED and compare_keys(&entry, self.entries + self.index_of[cluster]) < 0:
            self.entries[self.index_of[cluster]] = entry
        return 0

    cdef int exclude(self, uint32_t route) except -1:
        """Keep the cluster of a route that excludes it out of the ranking, unless a longer prefix has added it."""
        if self.excludes[route] and self.stamp_of[self.cluster[route]] != self.stamp:
            self.stamp_of[self.cluster[route]] = self.stamp
            self.index_of[self.cluster[route]] = EXCLUDED
        return 0

    cdef uint32_t partner(self) noexcept:
        """Return the partner among the candidates with the longest prefix, the best ranked; 0 for none."""
        cdef uint32_t depth = NO_STEP, partner = 0
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.entries[i].depth < depth and self.partners[self.entries[i].cluster]:
                depth = self.entries[i].depth
                partner = self.partners[self.entries[i].cluster]
        return partner

    cdef uint32_t rank_routes(self) noexcept:
        """Sort the candidates and write their ranks; return the last rank."""
        cdef uint32_t rank = 0
        cdef Py_ssize_t i
        qsort(self.entries, self.count, sizeof(ranking_entry), compare_ranking_entries)
        for i in range(self.count):
            if i and compare_keys(self.entries + i - 1, self.entries + i):
                rank = min(rank + 1, <uint32_t> C_RANK)
            self.steps[2 * i] = self.entries[i].cluster
            self.steps[2 * i + 1] = rank
        return rank

    @cython.boundscheck(False)  # make_rankings checks the clusters
    cdef void add_fallbacks(self, const uint32_t* clusters, Py_ssize_t count, uint32_t rank) noexcept:
        """Write clusters that have no route after those that do, nearest first, a rank for each distance step."""
        cdef uint32_t step, last_step = NO_STEP, cluster
        cdef Py_ssize_t i
        for i in range(count):
            cluster = clusters[i]
            if self.stamp_of[cluster] == self.stamp:
                continue
            self.stamp_of[cluster] = self.stamp
            step = self.distance_step(cluster)
            if step != last_step and self.count:
                rank = min(rank + 1, <uint32_t> C_RANK)
            last_step = step
            self.steps[2 * self.count] = cluster
            self.steps[2 * self.count + 1] = rank | C_FALLBACK
            self.count += 1

    @cython.boundscheck(False)  # the clusters are those of the entries
    cdef void set_prices(self) noexcept:
        """Write the price of each rank."""
        cdef uint32_t rank, price = 0
        cdef double cheapest
        cdef Py_ssize_t i = 0, first
        while i < self.count:
            first, rank, cheapest = i, self.steps[2 * i + 1] & C_RANK, MOST_PRICE
            while i < self.count and self.steps[2 * i + 1] & C_RANK == rank:
                cheapest = min(cheapest, self.price_of(self.steps[2 * i], self.steps[2 * i + 1] & C_FALLBACK))
                i += 1
            price = max(price, <uint32_t> (cheapest + 0.5))
            while first < i:
                self.steps[2 * first + 1] |= price << PRICE_SHIFT
                first += 1

    @cython.boundscheck(False)
    cdef inline double price_of(self, uint32_t cluster, bint no_route) noexcept:
        cdef Py_ssize_t clusters = self.partners.shape[0]
        return self.prices[clusters if no_route else cluster] \
            + self.prices[clusters + 1] * self.distance_km(cluster) / 1000

    @cython.boundscheck(False)  # as add_route
    cdef inline double distance_km(self, uint32_t cluster) noexcept:
        cdef const double* a = &self.cluster_vectors[3 * <Py_ssize_t> cluster]
        cdef const double* b = &self.region_vectors[3 * <Py_ssize_t> self.region]
        cdef double cosine = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
        return EARTH_RADIUS * acos(max(-1.0, min(1.0, cosine)))

    cdef inline uint32_t distance_step(self, uint32_t cluster) noexcept:
        return <uint32_t> (self.distance_km(cluster) / self.step_km)

    cdef bytes content(self):
        return self.out.data.as_chars[:self.count * 8]


def make_rankings(
    Pairs wanted not None, chains, set_first, set_members, dict routes not None, cluster_vectors, cluster_partners,
    region_vectors, fallback_first, fallback_clusters, prices, tuple policy not None, double step_km,
):
    """Return the Rankings of every wanted (chain, region).

    A set's routes are `set_members[set_first[s]:set_first[s + 1]]`, indices into the columns of `routes` (arrays of I):
    `cluster`, and one for each key of `policy` but prefix and distance. Vectors are unit vectors, three doubles each,
    by cluster number and by region. `prices` are doubles, where the fallback's is 192: by cluster number, then the
    price of a cluster without a route, then that of 1000 km. A region's fallback clusters, nearest first, are
    `fallback_clusters[fallback_first[r]:fallback_first[r + 1]]`.
    """
    cdef const uint32_t[::1] first = set_first, members = set_members
    cdef const uint32_t[::1] fallback_starts = fallback_first, fallbacks = fallback_clusters
    cdef const uint32_t[::1] parent = chains.parent, chain_set = chains.value
    cdef Py_ssize_t clusters = len(cluster_partners), pair, i, end
    cdef uint32_t chain, region, depth, rank
    cdef c_array.array ranking_of = zeros("I", len(wanted)), partner_of = zeros("I", len(wanted))
    cdef dict numbers = {}
    cdef RankingBuilder builder = RankingBuilder(
        routes, cluster_vectors, cluster_partners, region_vectors, prices, policy, step_km
    )
    for i in range(fallbacks.shape[0]):
        if fallbacks[i] >= clusters:
            raise ValueError(f"fallback {i} names cluster {fallbacks[i]}, there are {clusters}")
    rankings = Rankings()
    rankings.first, rankings.ranking_entries = array("I", [0]), array("I")
    for pair in range(wanted.count):
        chain, region = wanted.left.data.as_uints[pair], wanted.right.data.as_uints[pair]
        builder.begin(region)
        depth = 0
        while chain:
            for i in range(first[chain_set[chain]], first[chain_set[chain] + 1] if builder.any_excludes else 0):
                builder.exclude(members[i])
            for i in range(first[chain_set[chain]], first[chain_set[chain] + 1]):
                builder.add_route(members[i], depth)
            chain = parent[chain]
            depth += 1
        rank = builder.rank_routes()
        partner_of.data.as_uints[pair] = builder.partner()
        i, end = fallback_starts[region], fallback_starts[region + 1]
        if i < end <= fallbacks.shape[0]:
            builder.add_fallbacks(&fallbacks[i], end - i, rank)
        builder.set_prices()
        content = builder.content()
        number = numbers.get(content)
        if number is None:
            number = numbers[content] = len(numbers)
            rankings.ranking_entries.frombytes(content)
            rankings.first.append(len(rankings.ranking_entries) // 2)
        ranking_of.data.as_uints[pair] = number
    rankings.ranking, rankings.partner = ranking_of, partner_of
    return rankings
