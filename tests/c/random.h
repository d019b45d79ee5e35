/* Numbers that look random and are the same in every run. */

#ifndef TESTS_RANDOM_H
#define TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static uint64_t random_state = 20240229;

/* Begin another sequence, by a decimal number other than 0. */
static inline void seed_random(const char *text)
{
    random_state = strtoull(text, NULL, 10);
    if (random_state == 0) /* which the generator would never leave */
        random_state = 20240229;
}

/* xorshift64*, Vigna 2016 */
static inline uint64_t next_random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to limit - 1; 0 for a limit of 0. */
static inline size_t below(size_t limit)
{
    return limit ? (size_t)(next_random() >> 16) % limit : 0;
}

#endif
