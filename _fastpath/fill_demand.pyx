# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What viewers want of exchanges, title by title: the demand that partners leave, and what exchanges are worth to them.

Viewers are four columns: audience (those with the same exchanges in reach), area, group (-1 for none) and volume.
"""

from libc.math cimport ceil
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from _fastpath.title_list cimport C_LEVELS


cdef int check_viewers(const uint32_t[::1] audiences, const uint32_t[::1] areas, const int[::1] groups,
                       const double[::1] volumes, Py_ssize_t audience_count, Py_ssize_t area_count,
                       Py_ssize_t group_count) except -1:
    """Raise ValueError unless the four columns of viewers are of one length, and name what exists."""
    cdef Py_ssize_t i
    if not audiences.shape[0] == areas.shape[0] == groups.shape[0] == volumes.shape[0]:
        raise ValueError("the columns of viewers have different lengths")
    for i in range(audiences.shape[0]):
        if audiences[i] >= audience_count or areas[i] >= area_count or groups[i] >= group_count:
            raise ValueError(f"viewers {i}: audience {audiences[i]}, area {areas[i]}, group {groups[i]}")
    return 0


def read_demand(const float[:, ::1] rates not None, const uint16_t[:, ::1] sets not None,
                const uint32_t[::1] audiences not None, const uint32_t[::1] areas not None,
                const int[::1] groups not None, const double[::1] volumes not None, float gain,
                float[:, ::1] demand not None, float[:, ::1] spare not None):
    """Fill the demand of audiences by title, and the demand that partners serve already.

    `rates` are plays by area and title, `sets` by group and title. Viewers are four columns: audience, area, group (-1
    for none) and volume. Raises ValueError.
    """
    cdef Py_ssize_t titles = rates.shape[1], i, title
    cdef float weight, all_of, served
    cdef const float* plays
    cdef const uint16_t* held
    cdef float* wanted
    cdef float* spared
    if sets.shape[1] != titles or demand.shape[1] != titles or spare.shape[1] != titles or (
        demand.shape[0] != spare.shape[0]
    ):
        raise ValueError("rates, sets, demand and spare have different titles")
    check_viewers(audiences, areas, groups, volumes, demand.shape[0], rates.shape[0], sets.shape[0])
    with nogil:
        demand[:, :] = 0
        spare[:, :] = 0
        for i in range(audiences.shape[0] if titles else 0):
            weight = gain * <float> volumes[i]
            plays, wanted = &rates[areas[i], 0], &demand[audiences[i], 0]
            if groups[i] < 0:
                for title in range(titles):
                    wanted[title] += weight * plays[title]
                continue
            held, spared = &sets[groups[i], 0], &spare[audiences[i], 0]
            for title in range(titles):
                all_of = weight * plays[title]
                served = all_of if held[title] else 0
                spared[title] += served
                wanted[title] += all_of - served


def read_worth(const float[:, ::1] rates not None, const uint16_t[:, ::1] sets not None,
               const double[::1] sizes not None, const uint32_t[::1] audiences not None,
               const uint32_t[::1] areas not None, const int[::1] groups not None, const double[::1] volumes not None,
               const float[:, ::1] wanted not None, const float[:, ::1] spare not None,
               const double[::1] totals not None, uint8_t[:, ::1] levels not None, Py_ssize_t first):
    """Write the levels of titles from `first` on, by group; return the bytes of other viewers that exchanges are worth.

    `wanted` and `spare` are the shares of `Exchanges.prove`; the columns of viewers are those of `read_demand`.
    `totals` are the volumes of all viewers of each group. Levels are rounded up. Raises ValueError.
    """
    cdef Py_ssize_t titles = rates.shape[1], i, title, count = sets.shape[0]
    cdef double others = 0
    cdef float share, volume
    cdef float* sums
    cdef float* sum_of
    cdef const float* plays
    cdef const float* open_share
    cdef const float* held_share
    cdef const uint16_t* held
    if sets.shape[1] != titles or wanted.shape[1] != titles or spare.shape[1] != titles or sizes.shape[0] != titles or (
        levels.shape[0] != count or levels.shape[1] < first + titles or totals.shape[0] != count
    ):
        raise ValueError("rates, sets, shares and levels have different titles or groups")
    check_viewers(audiences, areas, groups, volumes, min(wanted.shape[0], spare.shape[0]), rates.shape[0], count)
    sums = <float*> calloc(count * titles + 1, sizeof(float))
    if sums == NULL:
        raise MemoryError
    with nogil:
        for i in range(audiences.shape[0] if titles else 0):
            volume, open_share = <float> volumes[i], &wanted[audiences[i], 0]
            if groups[i] < 0:
                plays = &rates[areas[i], 0]
                for title in range(titles):
                    others += volume * plays[title] * sizes[title] * open_share[title]
                continue
            held, held_share, sum_of = &sets[groups[i], 0], &spare[audiences[i], 0], sums + groups[i] * titles
            for title in range(titles):
                sum_of[title] += volume * (held_share[title] if held[title] else open_share[title])
        for i in range(count):
            for title in range(titles):
                share = sums[i * titles + title] / <float> totals[i] if totals[i] > 0 else 0
                levels[i, first + title] = <uint8_t> min(ceil(share * (C_LEVELS - 1) - 1e-4), C_LEVELS - 1)
    free(sums)
    return others
