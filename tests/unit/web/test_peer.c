/* Whose a connection over loopback is, by the kernel; above all: when it does not know, nobody's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvnode/web/peer.h"

#define UID_OTHER 12345

static int listener(int family, struct sockaddr_storage *addr_out, socklen_t *len_out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const void *addr = family == AF_INET ? (const void *)&v4 : (const void *)&v6;
    socklen_t len = family == AF_INET ? sizeof v4 : sizeof v6;
    int fd = socket(family, SOCK_STREAM, 0);

    *len_out = sizeof *addr_out;
    if (fd < 0 || bind(fd, addr, len) != 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr_out, len_out), 0);
    return fd;
}

static void is_known_while_it_is_there(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct sockaddr_storage addr;
    socklen_t len;
    size_t i;

    for (i = 0; i < 2; i++) {
        int l = listener(families[i], &addr, &len), a, b;
        uint32_t uid = 77;

        if (l < 0)
            continue; /* a machine without that family */
        a = socket(families[i], SOCK_STREAM, 0);
        assert_int_equal(connect(a, (struct sockaddr *)&addr, len), 0);
        b = accept(l, NULL, NULL);
        assert_int_equal(peer_of_loopback(b, &uid), 0);
        assert_int_equal(uid, geteuid());
        close(a);
        close(b);
        close(l);
    }
}

/* A child as another user connects, says something, and goes: the kernel would then say root. */
static void is_nobody_s_once_it_has_gone(void **state)
{
    struct sockaddr_storage addr;
    socklen_t len;
    int l = listener(AF_INET, &addr, &len), b, status, ready[2], go[2];
    uint32_t uid = 77;
    char byte;
    pid_t pid;

    assert_true(l >= 0);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid = fork();
    if (pid == 0) {
        int a;

        if (geteuid() == 0 && setuid(UID_OTHER) != 0)
            _exit(1);
        a = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(a, (struct sockaddr *)&addr, len) != 0 || write(a, "GET", 3) != 3 ||
            write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    b = accept(l, NULL, NULL);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(peer_of_loopback(b, &uid), 0);
    assert_int_equal(uid, geteuid() == 0 ? UID_OTHER : geteuid());
    assert_int_equal(write(go[1], "g", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    uid = 77;
    assert_int_equal(peer_of_loopback(b, &uid), -EACCES);
    assert_int_equal(uid, 77);
    close(b);
    close(l);
}

static void of_a_unix_socket_says_who(void **state)
{
    static struct web_who who;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    peer_of_unix(fds[0], &who);
    assert_int_equal(who.uid, geteuid());
    assert_int_equal(who.gid, getegid());
    close(fds[0]);
    close(fds[1]);
}

static void of_an_account_that_is_none_has_no_groups(void **state)
{
    static struct web_who who = {.uid = UID_OTHER, .gid = 1, .n_groups = 3};

    assert_false(peer_groups_known(UID_OTHER));
    peer_groups(&who);
    assert_int_equal(who.gid, 65534);
    assert_int_equal(who.n_groups, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_known_while_it_is_there),
        cmocka_unit_test(is_nobody_s_once_it_has_gone),
        cmocka_unit_test(of_a_unix_socket_says_who),
        cmocka_unit_test(of_an_account_that_is_none_has_no_groups),
    };

    return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
