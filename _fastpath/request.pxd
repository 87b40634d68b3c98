from _fastpath.ranking cimport C_MAX_FAILED, C_MAX_TITLE, is_dots, piece

cdef enum:
    # Parameters and members, by their index in PARAMETERS; `seen` has a bit for each.
    TITLE = 0
    SERVICE = 1
    SESSION = 2
    N = 3
    FAMILY = 4
    IP = 5
    EXPLAIN = 6
    REDIRECT = 7
    FAILED = 8
    CMCD = 9
    PLAYER = 10
    DECLARED = 11
    PATHWAY = 12
    THROUGHPUT = 13
    FILES = 14
    DEVICE = 15
    BODY = 16
    COUNT = 17
    # The fast path leaves a request with one of these to FastAPI.
    RARE = 1 << EXPLAIN | 1 << REDIRECT | 1 << FAILED
    # Rules, by their index in RULES.
    IS_REQUIRED = 0
    IS_GIVEN_ONCE = 1
    IS_ESCAPED = 2
    IS_UTF8 = 3
    IS_A_NUMBER = 4
    IS_A_FAMILY = 5
    IS_A_FLAG = 6
    IS_NOT_WITH_EXPLAIN = 7
    IS_AN_ADDRESS = 8
    IS_A_TITLE = 9
    IS_A_SESSION = 10
    IS_A_SERVICE = 11
    ARE_FILES = 12
    IS_A_DEVICE = 13
    IS_FOR_A_TITLE = 14
    IS_JSON = 15
    ARE_APPLIANCES = 16
    # What `decode` notes of a value.
    WRONG_ESCAPE = 1
    NOT_ASCII = 2
    NOT_UTF8 = 4

cdef struct refusal:
    int parameter
    int rule  # its index in RULES
    piece value

cdef struct steer_request:
    unsigned seen
    piece title
    piece service
    piece session
    piece ip
    piece failed
    int n  # 0 where it is absent, and so is family
    int family
    bint explain
    bint redirect
    bint is_ascii


cdef bytes room_for(bytes raw)
cdef str text_of(const piece* text)
cdef object refused(const refusal* why)
cdef bint refuse(refusal* why, int parameter, int rule, const piece* value) noexcept nogil
cdef bint read_steer(const char* at, const char* end, char* room, steer_request* out, refusal* why) noexcept nogil
cdef const char* split_parameter(const char* at, const char* end, const char** name_end, piece* value) noexcept nogil
cdef int find_parameter(const char* name, Py_ssize_t length, unsigned among) noexcept nogil
cdef Py_ssize_t decode(const char* at, const char* end, char* out, bint plus_is_space, unsigned* flags) noexcept nogil
cdef int check_digit(int parameter, char digit) noexcept nogil
cdef char digit_of(const piece* value) noexcept nogil
cdef void open_list(const char** at, const char** end) noexcept nogil
cdef void next_item(const char** at, const char* end, piece* item) noexcept nogil
cdef int read_failed(const piece* text, piece* failed, bint* wrong) noexcept nogil
cdef bint is_appliance(const piece* text) noexcept nogil
cdef int value_of_hex(char character) noexcept nogil
cdef Py_ssize_t characters_of(const piece* text) noexcept nogil


cdef inline bint is_title(const piece* text) noexcept nogil:
    return 1 <= text.length <= C_MAX_TITLE and not is_dots(text.at, text.length)
