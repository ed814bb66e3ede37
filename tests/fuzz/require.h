/* What a fuzz target holds: a condition that does not ends the run, as a crash that the fuzzer keeps. */
#ifndef REQUIRE_H
#define REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                                         \
    do {                                                                                                           \
        if (!(condition)) {                                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                          \
            abort();                                                                                               \
        }                                                                                                          \
    } while (0)

#endif
