/* What a test needs of the machine. */
#ifndef KVFS_TESTS_FAULT_NEEDED_H
#define KVFS_TESTS_FAULT_NEEDED_H

/* In a cmocka test. Why it is impossible here: the test is skipped, or fails where
 * everything must be possible ($CI). NULL: it is possible. */
void needed(const char *missing);

#endif
