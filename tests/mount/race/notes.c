#include "tests/mount/race/notes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int64_t notes_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void notes_clear(struct notes *notes)
{
    notes->n = 0;
}

struct note *notes_call(struct notes *notes, enum linear_kind kind, enum how how, int a, int b,
                        uint64_t value)
{
    int at = notes->n < NOTES_MAX ? notes->n++ : NOTES_MAX;
    struct note *note;

    if (at >= NOTES_MAX)
        return NULL;
    note = &notes->of[at];
    *note = (struct note){.kind = kind, .how = how, .a = a, .b = b, .value = value};
    note->call = notes_now();
    return note;
}

static bool reads(enum linear_kind kind)
{
    return kind == LINEAR_READ || kind == LINEAR_EXISTS;
}

void notes_answer(struct note *note, enum outcome outcome, int code, uint64_t value)
{
    note->answered = notes_now();
    if (reads(note->kind))
        note->value = value;
    note->code = code;
    note->outcome = (int)outcome;
}

const char *how_name(enum how how)
{
    static const char *const names[HOWS] = {"written", "opened", "stat", "listed", "read", "fstat", "mapped"};

    return how < HOWS ? names[how] : "all";
}

static int length(const struct notes *notes)
{
    return notes->n < NOTES_MAX ? notes->n : NOTES_MAX;
}

/* What it told, for people. */
static void print_note(const struct note *note, bool stuck)
{
    static const char *const kinds[] = {
        [LINEAR_SET] = "set",     [LINEAR_CREATE] = "create", [LINEAR_DELETE] = "remove",
        [LINEAR_MOVE] = "rename", [LINEAR_READ] = "value",    [LINEAR_EXISTS] = "there"};
    static const char *const outcomes[] = {"unknown", "ok", "refused", "does not count"};
    uint64_t value = note->kind == LINEAR_SET ? history_content(note->value)
                     : reads(note->kind)      ? note->value
                                              : 0;

    fprintf(stderr, "# %s player %2u on mount %u: %-7s by %-8s %d %d %016" PRIx64 " %.6f … %.6f %s (%d)\n",
            stuck ? ">" : " ", note->who, note->mount, kinds[note->kind], how_name(note->how), note->a,
            note->b, value, (double)note->call / 1e9, (double)note->answered / 1e9, outcomes[note->outcome],
            note->code);
}

static void print_around(const struct notes *notes, const struct linear_op *stuck)
{
    for (int i = 0; i < length(notes); i++) {
        const struct note *note = &notes->of[i];

        if (note->outcome == OUTCOME_UNKNOWN
                ? !reads(note->kind)
                : note->answered >= stuck->call - 30000000 && note->call <= stuck->answered + 10000000)
            print_note(note, note->kind == stuck->kind && note->call == stuck->call);
    }
}

static bool counts(const struct note *note, enum how how, enum answers answers)
{
    if (note->outcome == OUTCOME_NONE)
        return false;
    if (!reads(note->kind))
        return true;
    return note->outcome == OUTCOME_OK && (how == HOWS || note->how == how) &&
           (answers == ANSWERS_ALL || (note->value != 0) == (answers == ANSWERS_THERE));
}

/* What nobody knows of is tried late first; one whose value somebody saw was executed before. */
static void guess(struct linear_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; ops[i].open && ops[i].kind == LINEAR_SET && j < n; j++)
            if (ops[j].kind == LINEAR_READ && ops[j].value == history_content(ops[i].value) &&
                ops[j].hint <= ops[i].hint)
                ops[i].hint = ops[j].hint - 1;
}

/* Whether another value was written, from beginning to end, behind the one that it has read, and that long
 * before it began. */
static bool is_superseded(const struct notes *notes, const struct note *read, int64_t slack_ns)
{
    const struct note *writer = NULL;

    for (int i = 0; i < length(notes); i++)
        if (notes->of[i].kind == LINEAR_SET && history_content(notes->of[i].value) == read->value)
            writer = &notes->of[i];
    if (writer == NULL || writer->outcome != OUTCOME_OK)
        return false;
    for (int i = 0; i < length(notes); i++) {
        const struct note *other = &notes->of[i];

        if (other->kind == LINEAR_SET && other->outcome == OUTCOME_OK && other->call > writer->answered &&
            other->answered < read->call - slack_ns)
            return true;
    }
    return false;
}

enum linear_result notes_check(const struct notes *notes, enum how how, enum answers answers,
                               int64_t slack_ns, const char *print)
{
    struct linear_op *ops = calloc((size_t)length(notes) + 1, sizeof *ops);
    enum linear_result result;
    size_t n = 0, stuck = 0;

    if (ops == NULL)
        abort();
    for (int i = 0; i < length(notes); i++) {
        const struct note *note = &notes->of[i];
        struct linear_op *op = &ops[n];

        if (!counts(note, how, answers))
            continue;
        if (slack_ns > 0 && (note->how == HOW_DESCRIPTOR || note->how == HOW_MAP)) {
            if (!is_superseded(notes, note, slack_ns))
                continue;
            if (print != NULL) {
                fprintf(stderr, "# %s: what this has read was replaced long before:\n", print);
                print_note(note, true);
            }
            free(ops);
            return LINEAR_NO;
        }
        *op = (struct linear_op){.kind = note->kind,
                                 .a = note->a,
                                 .b = note->b,
                                 .value = note->value,
                                 .call = note->call,
                                 .answered = note->answered,
                                 .open = note->outcome == OUTCOME_UNKNOWN,
                                 .refused = note->outcome == OUTCOME_REFUSED};
        op->hint = op->open ? INT64_MAX : op->call / 2 + op->answered / 2;
        n++;
    }
    guess(ops, n);
    result = linear_check(ops, n, &stuck);
    if (result != LINEAR_YES && print != NULL) {
        fprintf(stderr, "# %s, %s: %s; of %zu operations, around the one that finds no place:\n", print,
                how_name(how), result == LINEAR_NO ? "not linearizable" : "too much to check", n);
        print_around(notes, &ops[stuck]);
    }
    free(ops);
    return result;
}
