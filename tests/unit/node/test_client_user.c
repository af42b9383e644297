/* Writes under way on one node: one user, all users, root, and what is the node's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kvnode/client/client_user.h"

#define MIB (1024UL * 1024)

static struct client_users all;

static struct client_user *enter(uint32_t uid)
{
    struct client_user *u = client_user_enter(&all, uid, uid == 0);

    assert_non_null(u);
    return u;
}

/* Begins writes of so many bytes until one is refused; their number. */
static unsigned fill(struct client_user *u, size_t len, const char *why)
{
    const char *refusal;
    unsigned n = 0;

    while ((refusal = client_user_refuses_write(u, len)) == NULL) {
        client_user_write(u, 1, len);
        n++;
    }
    assert_non_null(strstr(refusal, why));
    return n;
}

static void end(struct client_user *u, unsigned n, size_t len)
{
    while (n-- > 0)
        client_user_write(u, -1, len);
}

static void one_user_has_64_mib_or_16384_writes(void **state)
{
    struct client_user *a = enter(1001), *b = enter(1002);

    (void)state;
    assert_int_equal(fill(a, MIB, "this user"), 64);
    assert_null(client_user_refuses_write(a, 0));
    assert_null(client_user_refuses_write(b, MIB));
    end(a, 1, MIB);
    assert_int_equal(fill(a, MIB, "this user"), 1);
    end(a, 64, MIB);
    assert_int_equal(fill(a, 0, "this user"), 16384);
    assert_non_null(client_user_refuses_write(a, 0));
    assert_null(client_user_refuses_write(b, 0));
    end(a, 16384, 0);
    assert_null(client_user_refuses_write(a, MIB));
    client_user_leave(a);
    client_user_leave(b);
}

/* Each bound of a kind: bytes, and the number of writes. */
static void users_leave_a_part_to_root_and_root_leaves_one_to_the_node(void **state)
{
    static const struct {
        size_t len;
        unsigned user, root;
    } kinds[] = {{MIB, 64, 48}, {0, 16384, 12288}};
    struct client_user *users[4], *root = enter(0);

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        users[i] = enter(1001 + i);
    for (size_t k = 0; k < 2; k++) {
        size_t len = kinds[k].len;

        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(fill(users[i], len, "this user"), kinds[k].user);
        assert_int_equal(fill(users[3], len, "kept for root"), 0);
        assert_int_equal(fill(root, len, "of clients"), kinds[k].root);
        for (unsigned i = 0; i < 3; i++)
            end(users[i], kinds[k].user, len);
        /* Alone he has all of it; a user who comes then has to wait. */
        assert_int_equal(fill(root, len, "of clients"), 3 * kinds[k].user);
        assert_int_equal(fill(users[3], len, "of clients"), 0);
        end(root, 3 * kinds[k].user + kinds[k].root, len);
        assert_int_equal(fill(users[3], len, "this user"), kinds[k].user);
        end(users[3], kinds[k].user, len);
    }
    for (unsigned i = 0; i < 4; i++)
        client_user_leave(users[i]);
    client_user_leave(root);
    assert_null(all.by_uid);
}

/* A mount of root's for all: what it writes for somebody is that one's. */
static void what_is_written_for_a_user_counts_for_him(void **state)
{
    struct client_user *root = enter(0), *u = client_user_as(root, 1001);

    (void)state;
    assert_int_equal(fill(u, MIB, "this user"), 64);
    assert_null(client_user_refuses_write(root, MIB));
    end(u, 64, MIB);
    client_user_put(u);
    client_user_leave(root);
    assert_null(all.by_uid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_user_has_64_mib_or_16384_writes),
        cmocka_unit_test(users_leave_a_part_to_root_and_root_leaves_one_to_the_node),
        cmocka_unit_test(what_is_written_for_a_user_counts_for_him),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
