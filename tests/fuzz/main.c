/*
 * For machines without libFuzzer: feeds a fuzz target inputs made of the bytes that mean something in COPY data.
 * Usage: PROGRAM SECONDS [SEED]. A failing input is kept in the file `crash-input`.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_INPUT 40000

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n);

static uint8_t input[MAX_INPUT];
static size_t input_len;
static uint64_t state;

static uint32_t any(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static void put(const void *p, size_t n)
{
    if (input_len + n <= MAX_INPUT) {
        memcpy(input + input_len, p, n);
        input_len += n;
    }
}

static void piece(void)
{
    static const char *const tokens[] = {"\n", "\n", "\r\n", "\r", ",", "\t", "\"", "\"\"", "'", "\\", "\\.", "\\N",
                                         "\\D", ".", "1", "-42", "a", "2024-01-02", "x", "\xc3\xa9", "\\x41", "true"};
    static const char filler[70] = "......................................................................";
    static const uint8_t numbers[][6] = {{0, 1, 0, 0, 0, 1}, {0, 2, 0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0, 1},
                                         {0, 0, 0, 8, 'd', 0}, {'d', 0, 0, 0, 6, 'z'}};
    switch (any(12)) {
    case 0:
        put(filler, any(70));
        break;
    case 1:
        put(numbers[any(5)], 6);
        break;
    case 2: {
        uint8_t byte = (uint8_t)any(256);
        put(&byte, 1);
        break;
    }
    default: {
        const char *token = tokens[any(sizeof tokens / sizeof *tokens)];
        put(token, strlen(token));
    }
    }
}

static void keep(int signal_number)
{
    FILE *f = fopen("crash-input", "wb");
    if (f) {
        fwrite(input, 1, input_len, f);
        fclose(f);
    }
    fprintf(stderr, "input of %zu bytes kept in crash-input\n", input_len);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

int main(int argc, char **argv)
{
    static const uint8_t signature[19] = "PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0";
    time_t stop = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
    unsigned long long runs = 0, seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    signal(SIGABRT, keep);
    state = seed * 0x9e3779b97f4a7c15ULL + 1;
    for (; time(NULL) < stop; runs++) {
        input_len = 0;
        for (int i = 0; i < 8; i++) {
            uint8_t byte = (uint8_t)any(256);
            put(&byte, 1);
        }
        if (any(3) == 0)
            put(signature, sizeof signature);
        for (uint32_t left = any(50) == 0 ? any(6000) : any(80); left > 0; left--)
            piece();
        LLVMFuzzerTestOneInput(input, input_len);
    }
    printf("%llu inputs, seed %llu\n", runs, seed);
    return 0;
}
