from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _fastpath.counters cimport Counters
from _fastpath.holdings cimport Holdings
from _fastpath.lpm cimport PrefixTable

cdef enum:
    C_MAX_PICKS = 8
    C_MAX_TITLE = 256
    C_MAX_FILES = 1000
    C_MAX_MISSED = 16  # clusters of one answer that are said to miss a title
    # What is known of a title and a candidate.
    UNKNOWN = -1
    NOT_HELD = 0
    HELD = 1
    C_IPV4_UP = 1 << 21
    C_IPV6_UP = 1 << 22
    RANK = 0x7FFFFFFF
    REGION_WORDS = 16  # a service's allowed regions: one bit for each of 1,024


cdef packed struct zone_record:
    uint32_t first
    uint32_t count
    uint32_t partner
    char region[8]

cdef packed struct ranking_entry_record:
    uint32_t cluster
    uint32_t rank  # with FALLBACK set where no route leads

cdef packed struct cluster_record:
    uint32_t first
    uint32_t count
    uint32_t site
    uint32_t region

cdef packed struct appliance_record:
    uint32_t slot
    uint32_t host
    uint32_t tail
    uint16_t host_length
    uint16_t tail_length

cdef struct candidate:
    uint64_t cost
    uint32_t weight
    uint32_t appliance
    uint32_t site
    uint32_t rank

cdef struct note:
    uint32_t appliance
    uint32_t rank
    uint32_t word
    int held
    char reason

cdef struct seat_record:
    uint32_t services  # whose holdings the appliance reports, a bit each
    uint32_t place  # among its cluster's members

cdef struct hot_title:
    uint64_t key
    uint64_t fan_out

cdef struct question:
    uint64_t title  # ranks those of whom it is not known what they hold
    uint64_t session  # ranks those that hold it
    uint64_t viewer
    uint64_t content
    uint32_t fan_out
    uint32_t family_bit
    int n

cdef struct outcome:
    uint32_t seen  # the reasons, a bit each
    int missed
    uint32_t missed_by[C_MAX_MISSED]  # the clusters that are known to lack the title
    bint failed_open

cdef struct named:  # a file of a playback
    const char* text
    Py_ssize_t length
    uint64_t key

cdef struct handful:  # what is found for the files of a playback
    char* text  # names of files and numbers of servers, as in the answer
    char* at  # where it ends
    candidate* servers
    uint16_t* numbers  # by appliance, its number among the servers plus one; 0 for one that is none
    uint32_t known
    bint failed_open


cdef class StatusWords:
    cdef object map
    cdef Py_buffer buffer
    cdef bint held
    cdef uint32_t* words
    cdef readonly uint32_t slots
    cdef readonly bint writable
    cdef uint32_t* hot_count
    cdef hot_title* hot_table

    cdef int check_writable(self) except -1
    cdef uint32_t fan_out_of(self, uint64_t key) noexcept nogil


cdef class Service:
    cdef readonly str id
    cdef bytes id_bytes
    cdef const char* id_text
    cdef Py_ssize_t id_length
    cdef uint64_t salt
    cdef uint32_t holdings_bit
    cdef bint fail_open
    cdef uint32_t ttl_s, jitter_s
    cdef bytes playback_opening, behind_playback_ttl, opening
    cdef bytes before_host, before_title, after_title, before_fallback, after_fallback
    cdef readonly object sign  # None where URLs are not signed
    cdef object tag  # None where sessions have no tags
    cdef bytes behind_token
    cdef bint token_is_first  # before the title
    cdef uint64_t regions[REGION_WORDS]
    cdef bint any_region
    cdef readonly bint everywhere
    cdef readonly int n  # targets of an answer that asks for no number
    cdef bint covers_service  # a token, not one title
    cdef bint by_file  # what appliances hold
    cdef bytes places  # the regions of clients, ascending, as `code_of` has them

    cdef bint is_named(self, uint64_t place) noexcept
    cdef bint serves(self, const zone_record* zone) noexcept
    cdef bytes token_for(self, const char* title, Py_ssize_t title_length, int family, uint64_t upper)
    cdef bytes tag_for(self, const char* session, Py_ssize_t session_length, int family, uint64_t upper)


cdef class Picker:
    cdef readonly PrefixTable table
    cdef readonly StatusWords weights
    cdef readonly Holdings holdings
    cdef seat_record* seats
    cdef Py_buffer zones_buffer, ranking_entries_buffer, clusters_buffer, appliances_buffer, text_buffer
    cdef int held
    cdef const zone_record* zones
    cdef const ranking_entry_record* ranking_entries
    cdef const cluster_record* clusters
    cdef const appliance_record* appliances
    cdef const char* text
    cdef uint32_t zone_count, cluster_count, appliance_count, most_candidates

    cdef Py_buffer* part(self, int number) noexcept
    cdef int check(self) except -1
    cdef int seat(self) except -1
    cdef int begin(self, question* asked, int n, int family) except -1
    cdef void ask(self, Service service, uint64_t key, question* asked) noexcept nogil
    cdef int choose(self, uint32_t zone, const question* asked, Service service, candidate* chosen, outcome* came,
                    note* notes, uint32_t* noted) noexcept nogil
    cdef int walk(self, uint32_t zone, const question* asked, Service service, bint forgives, candidate* chosen,
                  outcome* came, note* notes, uint32_t* noted) noexcept nogil
    cdef void tally(
        self, Counters counters, Service service, const question* asked, const candidate* chosen, int found,
        const outcome* came, const char* title, Py_ssize_t title_length
    ) noexcept nogil
    cdef bytes answer_files(
        self, uint32_t zone, Service service, question* asked, named* files, int count, const char* title,
        Py_ssize_t title_length, const char* viewer, Py_ssize_t viewer_length, int family, uint64_t upper,
        Counters counters
    )
    cdef void write_file(
        self, const candidate* chosen, int picks, const outcome* came, const named* file, handful* found
    ) noexcept
    cdef bytes join_playback(self, bytes opening, uint32_t ttl, bytes url, bytes end, const handful* found)
    cdef Py_ssize_t measure(self, Service service, uint32_t ttl, const candidate* chosen, int found, int n,
                            const outcome* came, Py_ssize_t title_length, bytes token) noexcept
    cdef char* write(self, char* at, Service service, uint32_t ttl, const candidate* chosen, int found, int n,
                     const outcome* came, const char* title, Py_ssize_t title_length, bytes token) noexcept


cdef uint64_t key_of_viewer(const char* session, Py_ssize_t length, int family, uint64_t upper) noexcept nogil
cdef bint is_dots(const char* title, Py_ssize_t length) noexcept nogil
cdef Py_ssize_t escape(const char* title, Py_ssize_t length, char* out) noexcept nogil
cdef int digits_of(uint32_t number) noexcept nogil
cdef char* write_number(char* at, uint32_t number) noexcept nogil
