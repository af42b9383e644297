/* The flag of INIT's answer that libfuse does not pass on. */
#include <errno.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "kvfs/link/session_io.h"

static struct {
    struct fuse_in_header head;
    struct fuse_init_in body;
} request;
static struct fuse_out_header head;
static struct fuse_init_out body;
static char changed[256];

static int setup(void **state)
{
    (void)state;
    memset(&request, 0, sizeof request);
    memset(&body, 0, sizeof body);
    request.head = (struct fuse_in_header){.len = sizeof request, .opcode = FUSE_INIT, .unique = 2};
    request.body.major = FUSE_KERNEL_VERSION;
    request.body.flags = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS;
    head = (struct fuse_out_header){.len = sizeof head + sizeof body, .unique = 2};
    body.major = FUSE_KERNEL_VERSION;
    body.flags = FUSE_ASYNC_READ;
    body.max_write = 4096;
    return 0;
}

static bool answer(struct session_init *init)
{
    struct iovec parts[2] = {{&head, sizeof head}, {&body, sizeof body}};

    return session_io_answer(init, parts, 2, changed, sizeof changed);
}

static void is_set_in_the_answer(void **state)
{
    struct session_init init = {0};
    struct fuse_init_out out;

    (void)state;
    session_io_request(&init, &request, sizeof request);
    assert_true(answer(&init));
    memcpy(&out, changed, sizeof out);
    assert_int_equal(out.flags, FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS);
    out.flags = body.flags;
    assert_memory_equal(&out, &body, sizeof out);
    assert_false(answer(&init)); /* only in the first */
}

static void is_not_set_unless_the_kernel_offers_it(void **state)
{
    struct session_init init = {0};

    (void)state;
    request.body.flags = FUSE_ASYNC_READ;
    session_io_request(&init, &request, sizeof request);
    assert_false(answer(&init));
    request.body.flags |= FUSE_PARALLEL_DIROPS;
    request.body.major = 8; /* versions are still being agreed on */
    session_io_request(&init, &request, sizeof request);
    assert_false(answer(&init));
    request.body.major = 7;
    request.head.opcode = FUSE_LOOKUP;
    session_io_request(&init, &request, sizeof request);
    assert_false(answer(&init));
    request.head.opcode = FUSE_INIT;
    session_io_request(&init, &request, sizeof request.head + 15);
    assert_false(answer(&init));
}

static void is_not_set_in_other_answers(void **state)
{
    struct session_init init = {0};
    struct iovec parts[3] = {{&head, sizeof head}, {&body, 15}, {&body, 1}};

    (void)state;
    session_io_request(&init, &request, sizeof request);
    head.unique = 4;
    assert_false(answer(&init));
    head.unique = 2;
    head.error = -EPROTO;
    assert_false(answer(&init));
    head.error = 0;
    session_io_request(&init, &request, sizeof request);
    assert_false(session_io_answer(&init, parts, 2, changed, sizeof changed)); /* too short */
    session_io_request(&init, &request, sizeof request);
    assert_false(session_io_answer(&init, parts, 3, changed, sizeof changed));
    session_io_request(&init, &request, sizeof request);
    assert_false(session_io_answer(&init, parts, 1, changed, sizeof changed));
    session_io_request(&init, &request, sizeof request);
    parts[1].iov_len = sizeof body;
    assert_false(session_io_answer(&init, parts, 2, changed, 63)); /* no room */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(is_set_in_the_answer, setup),
        cmocka_unit_test_setup(is_not_set_unless_the_kernel_offers_it, setup),
        cmocka_unit_test_setup(is_not_set_in_other_answers, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
