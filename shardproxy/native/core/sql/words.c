#include "sql/words.h"

#include <string.h>

#define LONGEST 17 /* current_timestamp */

/* The words of each length, each followed by its sp_word. What is not here is SP_WORD_NAME. */
static const char *const words[LONGEST + 1] = {
    [2] = "asa" "byb" "ono" "ore" "in-" "to-",
    [3] = "ande" "notn" "all-" "any-" "for-" "bitt" "dect",
    [4] = "casee" "whene" "thene" "elsee" "likec" "withv" "from-" "next-" "both-" "zone-" "rows-" "timet" "chart",
    [5] = "wheree" "limitl" "ilikec" "first-" "range-" "using-" "value-" "nchart" "floatt",
    [6] = "selectS" "insertv" "updatev" "deletev" "offsetl" "havingl" "escape-" "groups-" "secondt",
    [7] = "betweenc" "default-" "placing-" "leading-" "passing-" "version-" "content-" "varchart" "varyingt"
          "numerict" "decimalt" "extractt",
    [8] = "distinctd" "trailing-" "variadic-" "document-" "intervalt" "operatort",
    [9] = "returninge" "symmetric-" "charactert" "timestampt" "localtimet",
    [10] = "asymmetric-",
    [12] = "current_timet",
    [14] = "localtimestampt",
    [17] = "current_timestampt",
};

sp_word sp_word_of(const uint8_t *word, size_t len)
{
    char lower[LONGEST];
    if (len > LONGEST)
        return SP_WORD_NAME;
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)(word[i] >= 'A' && word[i] <= 'Z' ? word[i] + 32 : word[i]);
    for (const char *known = words[len]; known && *known; known += len + 1)
        if (known[0] == lower[0] && memcmp(known, lower, len) == 0)
            return (sp_word)known[len];
    /* xmlpi, xmltable, json_value, json_table ... have grammars of their own in their parentheses. */
    if (len >= 4 && (memcmp(lower, "xml", 3) == 0 || (memcmp(lower, "json", 4) == 0 && (len == 4 || lower[4] == '_'))))
        return SP_WORD_TYPE;
    return SP_WORD_NAME;
}
