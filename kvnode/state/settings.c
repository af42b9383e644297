/* Settings and name patterns. The matcher keeps one point to go back to, the
 * last `*`, so its time is bounded by glob length × name length. */
#include "kvnode/state/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/attr.h"

#define KIB 1024ULL
#define SECOND 1000ULL

enum setting_unit { UNIT_NONE, UNIT_BYTES, UNIT_TIME, UNIT_TEXT };

static const struct setting_kind {
    const char *name;
    const char *fallback;
    enum setting_unit unit;
    uint64_t min, max;
    unsigned level; /* 0: of the first */
} kinds[SETTING_COUNT] = {
    [SETTING_VALUE_LIMIT] = {"value_limit", "64MiB", UNIT_BYTES, 1, KIB *KIB *KIB},
    [SETTING_MAX_KEYS] = {"max_keys", "1000000", UNIT_NONE, 1, 1000000000},
    [SETTING_MAX_BYTES] = {"max_bytes", "1GiB", UNIT_BYTES, 1, 1ULL << 50},
    [SETTING_SESSION_TIMEOUT] = {"session_timeout", "10min", UNIT_TIME, 10 * SECOND, 30 * 86400 * SECOND},
    [SETTING_MAX_DEAD_NAMES] = {"max_dead_names", "1000000", UNIT_NONE, 0, 1000000000},
    [SETTING_NO_HISTORY] =
        {"no_history",
         ".*.sw? .*.sw?x 4913 *~ .#* #*# .*.XXXXXX sedXXXXXX .goutputstream-XXXXXX .fuse_hidden* .~lock.*# "
         ".git/*.lock .git/tmp_obj_* .git/tmp_pack_* .git/tmp_idx_* .git/*_XXXXXX",
         UNIT_TEXT, 0, 0},
    [SETTING_LEASE] = {"lease", "1", UNIT_NONE, 0, 1, 2},
    [SETTING_FEATURE_LEVEL] = {"feature_level", "1", UNIT_NONE, 1, UINT16_MAX},
};

static const struct {
    const char *suffix;
    enum setting_unit unit;
    uint64_t factor;
} suffixes[] = {
    {"", UNIT_NONE, 1},
    {"", UNIT_BYTES, 1},
    {"KiB", UNIT_BYTES, KIB},
    {"MiB", UNIT_BYTES, KIB *KIB},
    {"GiB", UNIT_BYTES, KIB *KIB *KIB},
    {"TiB", UNIT_BYTES, KIB *KIB *KIB *KIB},
    {"s", UNIT_TIME, SECOND},
    {"min", UNIT_TIME, 60 * SECOND},
    {"h", UNIT_TIME, 3600 * SECOND},
    {"d", UNIT_TIME, 86400 * SECOND},
};

static bool parse_number(const struct setting_kind *kind, const char *text, uint64_t *number_out)
{
    uint64_t n = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 16)
        return false;
    for (size_t i = 0; i < digits; i++)
        n = n * 10 + (uint64_t)(text[i] - '0');
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (suffixes[i].unit != kind->unit || strcmp(suffixes[i].suffix, text + digits) != 0)
            continue;
        if (n > kind->max / suffixes[i].factor || n * suffixes[i].factor < kind->min)
            return false;
        *number_out = n * suffixes[i].factor;
        return true;
    }
    return false;
}

static bool check_patterns(const char *text)
{
    struct settings probe = {.text = {[SETTING_NO_HISTORY] = (char *)text}};
    struct name_pattern p;
    size_t at = 0;

    while (settings_next_pattern(&probe, &at, &p)) {
        if (p.glob_len == 0 || p.glob_len > KV_NAME_MAX || p.below_len > KV_NAME_MAX ||
            memchr(p.glob, '/', p.glob_len) != NULL || (p.below != NULL && p.below_len == 0))
            return false;
    }
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ')
            return false;
    return true;
}

void settings_init(struct settings *st)
{
    *st = (struct settings){0};
    for (int i = 0; i < SETTING_COUNT; i++)
        if (kinds[i].unit != UNIT_TEXT)
            parse_number(&kinds[i], kinds[i].fallback, &st->number[i]);
}

void settings_deinit(struct settings *st)
{
    for (int i = 0; i < SETTING_COUNT; i++)
        free(st->text[i]);
    *st = (struct settings){0};
}

const char *setting_name(enum setting i)
{
    return kinds[i].name;
}

unsigned setting_level(enum setting i)
{
    return kinds[i].level;
}

const char *setting_default(enum setting i)
{
    return kinds[i].fallback;
}

const char *settings_text(const struct settings *st, enum setting i)
{
    return st->text[i] != NULL ? st->text[i] : kinds[i].fallback;
}

enum setting setting_find(const void *name, size_t len)
{
    int i = 0;

    while (i < SETTING_COUNT && (strlen(kinds[i].name) != len || memcmp(kinds[i].name, name, len) != 0))
        i++;
    return (enum setting)i;
}

bool setting_number(enum setting i, const void *text, size_t len, uint64_t *number_out)
{
    char copy[32];

    if (len >= sizeof copy || (len > 0 && memchr(text, '\0', len) != NULL))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return parse_number(&kinds[i], copy, number_out);
}

int settings_set(struct settings *st, enum setting i, const void *value, size_t len)
{
    char *text;
    uint64_t number = 0;
    bool good, fallback;

    if (len >= SETTING_TEXT_MAX || (len > 0 && memchr(value, '\0', len) != NULL))
        return KV_E_INVAL;
    text = strndup(len > 0 ? value : "", len);
    if (text == NULL)
        return -ENOMEM;
    fallback = strcmp(text, "default") == 0;
    if (kinds[i].unit == UNIT_TEXT)
        good = check_patterns(text);
    else
        good = parse_number(&kinds[i], fallback ? kinds[i].fallback : text, &number);
    if (!good) {
        free(text);
        return KV_E_INVAL;
    }
    if (fallback) {
        free(text);
        text = NULL;
    }
    free(st->text[i]);
    st->text[i] = text;
    st->number[i] = number;
    return KV_OK;
}

bool settings_next_pattern(const struct settings *st, size_t *at, struct name_pattern *pattern_out)
{
    const char *text = settings_text(st, SETTING_NO_HISTORY) + *at, *slash;
    size_t blank = strspn(text, " "), len = strcspn(text + blank, " ");

    *at += blank + len;
    *pattern_out = (struct name_pattern){.glob = text + blank, .glob_len = len};
    slash = memchr(text + blank, '/', len);
    if (slash != NULL) {
        pattern_out->below = text + blank;
        pattern_out->below_len = (size_t)(slash - pattern_out->below);
        pattern_out->glob = slash + 1;
        pattern_out->glob_len = len - pattern_out->below_len - 1;
    }
    return len > 0;
}

/* Six characters of mkstemp(3). */
static bool looks_random(const uint8_t *s)
{
    int lower = 0, upper = 0, digits = 0;

    for (int i = 0; i < 6; i++) {
        lower += s[i] >= 'a' && s[i] <= 'z';
        upper += s[i] >= 'A' && s[i] <= 'Z';
        digits += s[i] >= '0' && s[i] <= '9';
    }
    if (lower + upper + digits != 6 || lower == 6 || upper == 6 || digits == 6)
        return false;
    return !(upper == 1 && lower == 5 && s[0] <= 'Z');
}

/* Does c fit the set that begins at glob[*at] == '['? Moves *at behind it. An
 * unclosed set stands for the bracket itself. */
static bool set_match(const char *glob, size_t len, size_t *at, uint8_t c)
{
    size_t i = *at + 1;
    bool negate = i < len && glob[i] == '!', hit = false;
    size_t first = negate ? ++i : i;

    for (; i < len && (glob[i] != ']' || i == first); i++) {
        if (i + 2 < len && glob[i + 1] == '-' && glob[i + 2] != ']') {
            hit |= c >= (uint8_t)glob[i] && c <= (uint8_t)glob[i + 2];
            i += 2;
        } else {
            hit |= c == (uint8_t)glob[i];
        }
    }
    if (i >= len) {
        *at += 1;
        return c == '[';
    }
    *at = i + 1;
    return hit != negate;
}

bool glob_match(const char *glob, size_t glob_len, const uint8_t *name, size_t name_len)
{
    size_t g = 0, n = 0, star = SIZE_MAX, star_n = 0;

    while (n < name_len || g < glob_len) {
        bool fits = false;

        if (g < glob_len && glob[g] == '*') {
            star = g++;
            star_n = n;
            continue;
        }
        if (g + 6 <= glob_len && memcmp(glob + g, "XXXXXX", 6) == 0) {
            fits = name_len - n >= 6 && looks_random(name + n);
            if (fits) {
                g += 6;
                n += 6;
            }
        } else if (g < glob_len && n < name_len) {
            if (glob[g] == '[') {
                fits = set_match(glob, glob_len, &g, name[n]);
            } else {
                fits = glob[g] == '?' || (uint8_t)glob[g] == name[n];
                g++;
            }
            n++;
        }
        if (fits)
            continue;
        if (star == SIZE_MAX || star_n >= name_len)
            return false;
        g = star + 1;
        n = ++star_n;
    }
    return true;
}
