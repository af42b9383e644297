/* The list at the top of message.h, which people read, and the tables, by which programs go, say the same:
 * both are brought into one form, a line for each message and each word. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sync/wire/body.h"

#define ARROW "→"
#define TIMES "× "

static const char *header_path;

/* ---- from the tables ---- */

static void put(struct buffer *b, const char *text)
{
    buffer_put_bytes(b, text, strlen(text));
}

static void put_fields(struct buffer *b, const struct layout *l);

/* As a part of something larger. */
static void put_layout(struct buffer *b, const struct layout *l)
{
    if (l->name != NULL) {
        put(b, l->name);
        return;
    }
    put(b, "(");
    put_fields(b, l);
    put(b, ")");
}

static void put_field(struct buffer *b, const struct layout_field *f)
{
    static const char *const types[] = {
        [LAYOUT_U8] = "u8 ",   [LAYOUT_U16] = "u16 ",     [LAYOUT_U32] = "u32 ",
        [LAYOUT_U64] = "u64 ", [LAYOUT_TEXT] = "string ", [LAYOUT_STRING] = "string ",
        [LAYOUT_STRUCT] = "",  [LAYOUT_REST] = "",        [LAYOUT_ROWS] = "u32 count, count " TIMES,
    };

    if (f->optional)
        put(b, "optionally ");
    if (strcmp(f->name, "at") == 0) { /* a word of its own */
        put(b, "at");
        return;
    }
    put(b, types[f->kind]);
    if (f->of != NULL)
        put_layout(b, f->of);
    else
        put(b, f->name);
}

static void put_fields(struct buffer *b, const struct layout *l)
{
    uint16_t i;

    for (i = 0; i < l->n_fields; i++) {
        if (i > 0)
            put(b, ", ");
        put_field(b, &l->fields[i]);
    }
}

static void put_body(struct buffer *b, const struct layout *l)
{
    if (l->name != NULL)
        put(b, l->name);
    else
        put_fields(b, l);
}

/* ---- from message.h ---- */

static char *read_header(void)
{
    static char text[65536];
    FILE *f = fopen(header_path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof text - 1, f);
    assert_true(n > 0 && n < sizeof text - 1);
    fclose(f);
    text[n] = '\0';
    return text;
}

/* The end of what is in parentheses. */
static const char *behind(const char *p)
{
    int depth = 0;

    do {
        assert_int_not_equal(*p, '\0');
        depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
        p++;
    } while (depth > 0);
    return p;
}

static bool ends_with(const struct buffer *b, const char *text)
{
    size_t len = strlen(text);

    return b->len >= len && memcmp(b->data + b->len - len, text, len) == 0;
}

/* What stands behind NAME up to the next name: without its explanations, with single blanks. False: it is not
 * there. */
static bool put_reference(struct buffer *b, const char *text, const char *name)
{
    char begin[64];
    const char *p, *end;

    snprintf(begin, sizeof begin, "\n * %s ", name);
    p = strstr(text, begin);
    if (p == NULL)
        return false;
    p += strlen(begin);
    end = strstr(p, "*/");
    assert_non_null(end);
    while (p < end) {
        if (*p == '\n' && strncmp(p, "\n *  ", 5) != 0)
            break; /* the next one */
        if (*p == '\n') {
            p += 3;
        } else if (*p == '(' && !ends_with(b, TIMES)) {
            p = behind(p);
        } else if (*p == '(') {
            const char *close = behind(p);

            buffer_put_bytes(b, p, (size_t)(close - p));
            p = close;
        } else if (isspace((unsigned char)*p)) {
            if (b->len > 0 && !ends_with(b, " "))
                put(b, " ");
            p++;
        } else {
            if (*p == ',' && ends_with(b, " "))
                b->len--; /* there was an explanation between */
            buffer_put_bytes(b, p++, 1);
        }
    }
    while (ends_with(b, " "))
        b->len--;
    return true;
}

static void assert_reference(const char *text, const char *name, struct buffer *table)
{
    struct buffer reference = BUFFER_INIT;

    if (!put_reference(&reference, text, name))
        fail_msg("%s is not in the list", name);
    buffer_put_u8(&reference, '\0');
    buffer_put_u8(table, '\0');
    assert_string_equal((const char *)reference.data, (const char *)table->data);
    buffer_deinit(&reference);
    buffer_clear(table);
}

static void each_message_is_in_the_list_as_in_the_table(void **state)
{
    const char *text = read_header();
    struct buffer table = BUFFER_INIT;
    uint8_t type;

    for (type = 1; type < MESSAGE_REQUEST_COUNT; type++) {
        const struct body *body = body_of(type);
        char number[64];

        assert_non_null(body);
        snprintf(number, sizeof number, " MESSAGE_%s = %u,", body->name, type);
        assert_non_null(strstr(text, number));
        put_body(&table, body->request);
        put(&table, table.len > 0 ? " " ARROW : ARROW);
        if (body->answer->n_fields > 0)
            put(&table, " ");
        put_body(&table, body->answer);
        assert_reference(text, body->name, &table);
    }
    buffer_deinit(&table);
}

static void each_word_is_in_the_list_as_in_its_table(void **state)
{
    static const struct layout *const words[] = {&attr_layout, &command_result_layout, &version_row_layout,
                                                 &log_row_layout, &event_layout};
    const char *text = read_header();
    struct buffer table = BUFFER_INIT;
    size_t i;

    for (i = 0; i < sizeof words / sizeof *words; i++) {
        put_fields(&table, words[i]);
        assert_reference(text, words[i]->name, &table);
    }
    buffer_deinit(&table);
}

/* What is in the list is in the table: a message that is there no more would stay in the list. */
static void the_list_has_no_other_messages(void **state)
{
    const char *p = strstr(read_header(), "/* Bodies"), *end;
    unsigned n = 0;

    assert_non_null(p);
    end = strstr(p, "*/");
    while ((p = strstr(p, "\n * ")) != NULL && p < end) {
        p += 4;
        if (isupper((unsigned char)p[0]) && isupper((unsigned char)p[1]))
            n++;
    }
    assert_int_equal(n, MESSAGE_REQUEST_COUNT - 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_message_is_in_the_list_as_in_the_table),
        cmocka_unit_test(each_word_is_in_the_list_as_in_its_table),
        cmocka_unit_test(the_list_has_no_other_messages),
    };

    if (argc < 2) {
        fprintf(stderr, "usage: %s PATH-OF-message.h\n", argv[0]);
        return 2;
    }
    header_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
