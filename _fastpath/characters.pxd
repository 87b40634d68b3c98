cdef extern from "characters.h" nogil:
    int IN_NAME, IN_VALUE, IN_QUERY, IN_ID, SPACE, LATIN_1_SPACE
    bint are_plain(const char* bytes) noexcept
    bint is_in(char character, int classes) noexcept
    bint is_name(const char* text, const char* lower, Py_ssize_t length) noexcept
