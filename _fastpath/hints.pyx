# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The reader of players' requests, /v1/hls and /v1/dash: the path, and the hints that players report in the query.

Nothing is refused, because players give up over an error: the last of a repeated hint counts, and hints that cannot be
read are ignored and counted. Values may stand in one pair of quotes, and may be lists with commas.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp

from _fastpath.characters cimport IN_ID, SPACE, is_in
from _fastpath.ranking cimport C_MAX_SESSION
from _fastpath.request cimport (
    CMCD, DECLARED, FAMILY, IP, NOT_ASCII, PATHWAY, PLAYER, SESSION, THROUGHPUT, characters_of, check_digit, decode,
    digit_of, find_parameter, room_for, split_parameter, text_of,
)
from _fastpath.steering_manifest cimport C_MAX_ID, C_MAX_REPORTED

PLAYLISTS = {"hls": "master.m3u8", "dash": "manifest.mpd"}

cdef enum:
    OF_PLAYERS = 1 << SESSION | 1 << FAMILY | 1 << IP | 1 << CMCD | 1 << PLAYER | 1 << DECLARED
    OF_PROTOCOL = 1 << PATHWAY | 1 << THROUGHPUT  # after `_HLS_` or `_DASH_`
    MAX_BPS_DIGITS = 20

cdef int64_t MAX_BPS = 10**12

Hints = namedtuple(
    "Hints", "pathways throughputs session player declared ip family odd", defaults=((), (), "", "", (), None, 0, 0)
)


def read_player_request(bytes path not None, bytes query not None):
    cdef const char* at = PyBytes_AS_STRING(path)
    cdef const char* hint = PyBytes_AS_STRING(query)
    cdef bytes room = room_for(path + query)
    cdef player_request found
    read_player(
        at, at + PyBytes_GET_SIZE(path), hint, hint + PyBytes_GET_SIZE(query), PyBytes_AS_STRING(room), &found
    )
    protocol = text_of(&found.protocol)
    name = PLAYLISTS[protocol] if found.is_playlist else ""
    return protocol, text_of(&found.service), text_of(&found.title), name, hints_of(&found.hints)


cdef hints_of(const hints* found):
    cdef const char* at = found.declared.at
    cdef const char* end = at + found.declared.length
    cdef piece item
    cdef int i
    declared = []
    open_list(&at, &end)
    while at != NULL and len(declared) < C_MAX_REPORTED:
        next_item(&at, end, &item)
        declared.append(text_of(&item))
    return Hints(
        tuple([text_of(found.pathways.ids + i) for i in range(found.pathways.count)]),
        tuple([
            None if found.throughputs[i] < 0 else found.throughputs[i] for i in range(found.throughput_count)
        ]),
        text_of(&found.session),
        text_of(&found.player),
        tuple(declared),
        text_of(&found.ip) if found.seen & 1 << IP else None,
        found.family,
        found.odd,
    )


cdef void read_player(
    const char* path, const char* path_end, const char* query, const char* end, char* room, player_request* out
) noexcept nogil:
    """Read a player's request, from the path `/v1/{protocol}/{service}/{title}` with or without a playlist's name.

    A path of another shape is one of an empty title.
    """
    cdef piece segments[5]
    cdef const char* stop
    cdef unsigned flags = 0
    cdef int count = 0
    segments[0] = piece(room, 0)
    path += 4 if path_end - path > 4 else 0  # /v1/
    while path <= path_end and count < 5:
        stop = <const char*> memchr(path, b"/", path_end - path)
        if stop == NULL:
            stop = path_end
        segments[count] = piece(room, decode(path, stop, room, False, &flags))
        room += segments[count].length
        count += 1
        path = stop + 1
    out.protocol = segments[0]
    out.is_playlist = count == 4 and is_playlist_name(segments + 3, out.protocol.length == 3)
    out.service = segments[1] if count > 1 else piece(room, 0)
    out.title = segments[2] if count == 3 or out.is_playlist else piece(room, 0)
    read_hint_query(query, end, out.protocol.length == 3, room, &out.hints)
    out.hints.is_ascii = out.hints.is_ascii and not flags & NOT_ASCII


cdef inline bint is_playlist_name(const piece* name, bint is_hls) noexcept nogil:
    if is_hls:
        return name.length == 11 and memcmp(name.at, b"master.m3u8", 11) == 0
    return name.length == 12 and memcmp(name.at, b"manifest.mpd", 12) == 0


cdef void read_hint_query(const char* at, const char* end, bint is_hls, char* room, hints* out) noexcept nogil:
    cdef piece values[THROUGHPUT + 1]
    cdef piece raw
    cdef const char* name
    cdef const char* stop
    cdef const char* prefix = b"_HLS_" if is_hls else b"_DASH_"
    cdef Py_ssize_t prefix_length = 5 if is_hls else 6
    cdef unsigned flags = 0
    cdef int i
    out.seen = out.odd = out.family = out.throughput_count = out.pathways.count = 0
    for i in range(THROUGHPUT + 1):
        values[i].length = 0
    while at < end:
        name = at
        at = split_parameter(at, end, &stop, &raw)
        if stop - name > prefix_length and memcmp(name, prefix, prefix_length) == 0:
            i = find_parameter(name + prefix_length, stop - name - prefix_length, OF_PROTOCOL)
        else:
            i = find_parameter(name, stop - name, OF_PLAYERS)
        if i >= 0:
            out.seen |= 1 << i
            values[i] = raw
    for i in range(THROUGHPUT + 1):
        if values[i].length:
            stop = values[i].at
            values[i] = piece(room, decode(stop, stop + values[i].length, room, True, &flags))
            room += values[i].length
    out.session, out.player, out.declared, out.ip = values[SESSION], values[PLAYER], values[DECLARED], values[IP]
    if characters_of(&out.session) > C_MAX_SESSION:
        out.session.length = 0
        out.odd += 1
    if values[FAMILY].length:
        if check_digit(FAMILY, digit_of(values + FAMILY)):
            out.odd += 1
        else:
            out.family = values[FAMILY].at[0] - 48
    out.odd += read_pathways(values + PATHWAY, &out.pathways)
    out.odd += read_throughputs(values + THROUGHPUT, out)
    out.is_ascii = not flags & NOT_ASCII


cdef int read_pathways(const piece* text, report* out) noexcept nogil:
    """Read the pathways that a player reports, each once; return how many kinds of mistakes there are."""
    cdef const char* at = text.at
    cdef const char* end = at + text.length
    cdef const char* byte
    cdef piece item
    cdef int items = 0
    cdef bint wrong = False
    open_list(&at, &end)
    while at != NULL:
        next_item(&at, end, &item)
        items += 1
        byte = item.at
        while byte < item.at + item.length and is_in(byte[0], IN_ID):
            byte += 1
        if item.length > C_MAX_ID or byte < item.at + item.length:
            wrong = True
        elif item.length and out.count < C_MAX_REPORTED and not is_reported(&item, out):
            out.ids[out.count] = item
            out.count += 1
    return wrong + (items > C_MAX_REPORTED)


cdef inline bint is_reported(const piece* item, const report* reported) noexcept nogil:
    cdef int i
    for i in range(reported.count):
        if reported.ids[i].length == item.length and memcmp(reported.ids[i].at, item.at, item.length) == 0:
            return True
    return False


cdef int read_throughputs(const piece* text, hints* out) noexcept nogil:
    """Read the throughputs that a player reports; return how many are not numbers."""
    cdef const char* at = text.at
    cdef const char* end = at + text.length
    cdef piece item
    cdef int64_t value
    cdef Py_ssize_t i
    cdef int wrong = 0
    open_list(&at, &end)
    while at != NULL and out.throughput_count < MAX_THROUGHPUTS:
        next_item(&at, end, &item)
        value = 0 if item.length else -1
        for i in range(item.length):
            if not b"0" <= item.at[i] <= b"9":
                value = -1
                wrong += 1
                break
            if i < MAX_BPS_DIGITS:
                value = min(10 * value + item.at[i] - 48, MAX_BPS)
        out.throughputs[out.throughput_count] = value
        out.throughput_count += 1
    return wrong


cdef inline void open_list(const char** at, const char** end) noexcept nogil:
    """Leave out the space around a list with commas, and a pair of quotes; NULL for an empty one."""
    while at[0] < end[0] and is_in(at[0][0], SPACE):
        at[0] += 1
    while at[0] < end[0] and is_in((end[0] - 1)[0], SPACE):
        end[0] -= 1
    if end[0] - at[0] >= 2 and at[0][0] == b'"' and (end[0] - 1)[0] == b'"':
        at[0] += 1
        end[0] -= 1
    if at[0] == end[0]:
        at[0] = NULL


cdef inline void next_item(const char** at, const char* end, piece* item) noexcept nogil:
    """Take the next item of a list, without the space around it; `at` is NULL after the last."""
    cdef const char* stop = <const char*> memchr(at[0], b",", end - at[0])
    item.at = at[0]
    at[0] = stop + 1 if stop != NULL else NULL
    if stop == NULL:
        stop = end
    while item.at < stop and is_in(item.at[0], SPACE):
        item.at += 1
    while item.at < stop and is_in((stop - 1)[0], SPACE):
        stop -= 1
    item.length = stop - item.at
