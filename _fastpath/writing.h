/* Writers of text for the renderers: each writes at a position with room for its text, and returns the end of it. */
#ifndef STEERING_WRITING_H
#define STEERING_WRITING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The characters that stand for themselves in a URL (RFC 3986, 2.3). */
static const uint8_t UNRESERVED[256] = {
    ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1,
};
static const char HEX_DIGITS[] = "0123456789ABCDEF";

static inline char *join(char *out, const char *part, ptrdiff_t length)
{
    memcpy(out, part, (size_t)length);
    return out + length;
}

static inline int digits_of(uint32_t number)
{
    int digits = 1;
    for (; number > 9; number /= 10)
        digits++;
    return digits;
}

static inline char *write_number(char *out, uint32_t number)
{
    int digits = digits_of(number);
    for (int i = digits - 1; i >= 0; i--, number /= 10)
        out[i] = (char)('0' + number % 10);
    return out + digits;
}

/* Write a title percent-encoded, at most three bytes for each of its own, and return the length. */
static inline ptrdiff_t escape(const char *title, ptrdiff_t length, char *out)
{
    ptrdiff_t written = 0;
    for (ptrdiff_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)title[i];
        if (UNRESERVED[byte]) {
            out[written++] = (char)byte;
        } else {
            out[written++] = '%';
            out[written++] = HEX_DIGITS[byte >> 4];
            out[written++] = HEX_DIGITS[byte & 15];
        }
    }
    return written;
}

/* Write UTF-8 as a JSON string, at most six bytes for each of its own and two quotes. */
static inline char *write_json_string(char *out, const char *text, ptrdiff_t length)
{
    *out++ = '"';
    for (ptrdiff_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte < 0x20) {
            out = join(out, "\\u00", 4);
            *out++ = HEX_DIGITS[byte >> 4];
            *out++ = HEX_DIGITS[byte & 15];
            continue;
        }
        if (byte == '"' || byte == '\\')
            *out++ = '\\';
        *out++ = (char)byte;
    }
    *out++ = '"';
    return out;
}

#endif
