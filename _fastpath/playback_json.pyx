# cython: wraparound=False, initializedcheck=False, cdivision=True
"""The answer for many files as compact JSON: each server once, and for each file the numbers of its servers.

    {"table":…,"fleet":…,"holdings":…,"ttl":…,"url":"…","fallback":"…","servers":[{"host":"…","appliance":"…",
     "site":"…","rank":0,"families":[4,6]}],"files":{"a":[0,1]},"tokens":{"a":"…"},"fail_open":true,"tag":"…"}
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

from _fastpath.atomics cimport load_word
from _fastpath.file_records cimport appliance_record, site_record
from _fastpath.hashing cimport hash_bytes, jittered_ttl, mix
from _fastpath.ranking cimport C_MAX_TITLE, decision, is_dots, text_of
from _fastpath.status_words cimport C_IPV4_UP, C_IPV6_UP
from _fastpath.steer_json cimport sign_picks
from _fastpath.writing cimport digits_of, escape, join, join_bytes, write_json_string, write_number

import os

MAX_FILES = C_MAX_FILES

cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")  # so that no request chooses which names collide

cdef enum:
    NAME_CELLS = 2048  # of the table that finds equal names
    ROOM = 6  # for "":[], of a file; for the number of a server, below 8,000, and a comma

# By the bits of `candidate.weight` of a server: the families that it is up on.
cdef tuple FAMILIES = (b',"families":[]}', b',"families":[4]}', b',"families":[6]}', b',"families":[4,6]}')


def answer_playback(
    Picker picker not None, address, list files not None, Service service not None, int n, int family,
    str session not None="", str title not None="", Counters counters=None, failed=()
):
    cdef question asked
    cdef const char* viewer
    cdef Py_ssize_t viewer_length
    cdef named* names
    cdef int count = 0
    if not 1 <= len(files) <= C_MAX_FILES:
        raise ValueError(f"1 to {MAX_FILES} files, not {len(files)}")
    picker.read(address, title, n, family, session, counters, failed, &asked)
    viewer = text_of(session, &viewer_length)
    names = <named*> malloc(len(files) * sizeof(named))
    if names == NULL:
        raise MemoryError
    try:
        for file in files:
            names[count].text = text_of(<str?> file, &names[count].length)
            if not 1 <= names[count].length <= C_MAX_TITLE or is_dots(names[count].text, names[count].length):
                raise ValueError(f"a file has 1 to {C_MAX_TITLE} bytes, and is not . or ..")
            count += 1
        answer = answer_files(picker, service, &asked, names, count, viewer, viewer_length, counters)
    finally:
        free(names)
    if answer is None:
        raise ValueError("a file is named twice")
    return answer


cdef bytes answer_files(
    Picker picker, Service service, question* asked, named* files, int count, const char* session,
    Py_ssize_t session_length, Counters counters
):
    """Return the answer for files with valid names, and count it; None where two files have one name.

    The request has no key yet. The files of a title are ranked once, as the title is; where appliances report files, an
    appliance that lacks a file is passed over for it. Without a title each file is ranked as a title.
    """
    cdef answered so_far
    cdef uint32_t ttl
    cdef list tokens = []
    cdef bytes token
    cdef Py_ssize_t room = 0
    cdef int i
    asked.key = hash_bytes(asked.title, asked.title_length)
    ttl = jittered_ttl(service.ttl_s, service.jitter_s, asked.key, asked.viewer)
    for i in range(count):
        files[i].key = hash_bytes(files[i].text, files[i].length)
        room += (asked.n + 1) * ROOM + 6 * files[i].length
    if names_one_twice(files, count):
        return None
    so_far.text = so_far.end = <char*> malloc(room)
    so_far.servers = <candidate*> malloc(count * asked.n * sizeof(candidate))
    so_far.numbers = <uint16_t*> calloc(picker.appliance_count + 1, sizeof(uint16_t))
    so_far.known = 0
    so_far.failed_open = False
    try:
        if so_far.text == NULL or so_far.servers == NULL or so_far.numbers == NULL:
            raise MemoryError
        token = pick_files(picker, service, asked, files, count, counters, tokens, &so_far)
        url = service.url if token is None else service.url.replace(b"{token}", token)
        tag = service.tag_for(session, session_length, asked.client_family, asked.upper)
        return join_parts(picker, service, ttl, url, end_of(tokens, files, so_far.failed_open, tag), &so_far)
    finally:
        free(so_far.text)
        free(so_far.servers)
        free(so_far.numbers)


cdef bytes pick_files(
    Picker picker, Service service, const question* asked, named* files, int count, Counters counters, list tokens,
    answered* so_far
):
    """Pick the servers of each file, and return the token for all of them; one for each file goes to `tokens`."""
    cdef decision made
    cdef question single = asked[0]
    cdef bint is_whole = asked.title_length and not service.by_file  # one decision is for all files
    cdef named* subject
    cdef named whole = named(asked.title, asked.title_length, asked.key)
    cdef char escaped[3 * C_MAX_TITLE]
    cdef bytes token = None
    cdef int i
    for i in range(count):
        subject = &whole if is_whole else files + i
        if i == 0 or not is_whole:
            single.key = asked.key if asked.title_length else subject.key
            single.subject = subject.key
            picker.decide(&single, service, &made)
        if service.sign is not None and made.count:
            if token is None or not service.covers_service:
                token = sign_picks(
                    service, &made, escaped, escape(files[i].text, files[i].length, escaped), asked.client_family,
                    asked.upper
                )
                if token is not None and not service.covers_service:
                    tokens.append((i, token))
        if counters is not None and (i == 0 or not is_whole):
            picker.tally(counters, service, &made, subject.text, subject.length)
        write_file(picker, &made, files + i, so_far)
    return token if service.covers_service else None


cdef void write_file(Picker picker, const decision* made, const named* file, answered* so_far) noexcept:
    """Write a file's name and the numbers of its servers; new servers are added to those known."""
    cdef uint16_t* number
    cdef candidate* server
    cdef uint32_t word
    cdef int i
    so_far.failed_open = so_far.failed_open or made.failed_open
    if so_far.end != so_far.text:
        so_far.end = join(so_far.end, b",", 1)
    so_far.end = join(write_json_string(so_far.end, file.text, file.length), b":[", 2)
    for i in range(made.count):
        number = so_far.numbers + made.picks[i].appliance
        if number[0] == 0:
            server = so_far.servers + so_far.known
            server[0] = made.picks[i]
            # Read once, because it may change; a server needs no weight, so its families stand there.
            word = load_word(picker.status.words + picker.appliances[server.appliance].slot)
            server.weight = (word & C_IPV4_UP != 0) | (word & C_IPV6_UP != 0) << 1
            so_far.known += 1
            number[0] = <uint16_t> so_far.known
        if i:
            so_far.end = join(so_far.end, b",", 1)
        so_far.end = write_number(so_far.end, number[0] - 1)
    so_far.end = join(so_far.end, b"]", 1)


cdef bytes join_parts(
    Picker picker, Service service, uint32_t ttl, bytes url, bytes end, const answered* so_far
):
    """Return the answer: what is for all files, the servers, and the files."""
    cdef Py_ssize_t files_length = so_far.end - so_far.text
    cdef Py_ssize_t length = 9 + PyBytes_GET_SIZE(service.table) + 9 + PyBytes_GET_SIZE(service.fleet) + 12
    length += PyBytes_GET_SIZE(service.holdings) + 7 + digits_of(ttl) + 8 + PyBytes_GET_SIZE(url) + 14
    length += PyBytes_GET_SIZE(service.fallback) + 13 + 11 + files_length + PyBytes_GET_SIZE(end)
    cdef const appliance_record* appliance
    cdef const site_record* site
    cdef const candidate* server
    cdef bytes answer
    cdef char* out
    cdef uint32_t i
    for i in range(so_far.known):
        server = so_far.servers + i
        appliance = picker.appliances + server.appliance
        length += 9 + appliance.host_length + 15 + appliance.id_length + 10 + picker.sites[server.site].id_length + 9
        length += digits_of(server.rank) + PyBytes_GET_SIZE(<bytes> FAMILIES[server.weight]) + (i > 0)
    answer = PyBytes_FromStringAndSize(NULL, length)
    out = join_bytes(join(PyBytes_AS_STRING(answer), b'{"table":', 9), service.table)
    out = join_bytes(join(out, b',"fleet":', 9), service.fleet)
    out = join_bytes(join(out, b',"holdings":', 12), service.holdings)
    out = write_number(join(out, b',"ttl":', 7), ttl)
    out = join_bytes(join(out, b',"url":"', 8), url)
    out = join_bytes(join(out, b'","fallback":"', 14), service.fallback)
    out = join(out, b'","servers":[', 13)
    for i in range(so_far.known):
        server = so_far.servers + i
        appliance = picker.appliances + server.appliance
        site = picker.sites + server.site
        if i:
            out = join(out, b",", 1)
        out = join(join(out, b'{"host":"', 9), picker.text + appliance.host, appliance.host_length)
        out = join(join(out, b'","appliance":"', 15), picker.text + appliance.id, appliance.id_length)
        out = join(join(out, b'","site":"', 10), picker.text + site.id, site.id_length)
        out = write_number(join(out, b'","rank":', 9), server.rank)
        out = join_bytes(out, <bytes> FAMILIES[server.weight])
    out = join(join(out, b'],"files":{', 11), so_far.text, files_length)
    join_bytes(out, end)
    return answer


cdef bytes end_of(list tokens, const named* files, bint failed_open, bytes tag):
    """Return what follows the files: a token for each, where one does not cover them all, and the tag."""
    cdef bytearray out
    cdef char quoted[6 * C_MAX_TITLE + 2]
    cdef int file
    if not tokens and not failed_open and tag is None:
        return b"}}"
    out = bytearray(b"}")
    for i, (file, token) in enumerate(tokens):
        out += b"," if i else b',"tokens":{'
        out += quoted[:write_json_string(quoted, files[file].text, files[file].length) - quoted]
        out += b':"%b"' % token
    if tokens:
        out += b"}"
    if failed_open:
        out += b',"fail_open":true'
    if tag is not None:
        out += b',"tag":"%b"' % tag
    out += b"}"
    return bytes(out)


cdef bint names_one_twice(const named* files, int count) noexcept nogil:
    """Return whether two files have one name, by an open-addressed table of their numbers plus one."""
    cdef uint16_t table[NAME_CELLS]
    cdef const named* other
    cdef uint64_t cell
    cdef int i
    memset(table, 0, sizeof(table))
    for i in range(count):
        cell = mix(files[i].key ^ SEED) & (NAME_CELLS - 1)
        while table[cell]:
            other = files + table[cell] - 1
            if other.key == files[i].key and other.length == files[i].length \
                    and memcmp(other.text, files[i].text, other.length) == 0:
                return True
            cell = (cell + 1) & (NAME_CELLS - 1)
        table[cell] = <uint16_t> (i + 1)
    return False
