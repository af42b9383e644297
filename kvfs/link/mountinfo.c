#include "kvfs/link/mountinfo.h"

#include <stdlib.h>
#include <string.h>

/* A field, in place: \\040 and the like are characters. */
static void unescape(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
            text[3] >= '0' && text[3] <= '7') {
            *to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 3;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

bool mountinfo_parse(char *line, struct mount_line *out)
{
    char *type = strstr(line, " - "), *save = NULL, *fields[5];
    int i;

    if (type == NULL)
        return false;
    *type = '\0';
    type += 3;
    type[strcspn(type, " \n")] = '\0';
    for (i = 0; i < 5; i++) {
        fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (fields[i] == NULL)
            return false;
    }
    unescape(fields[3]);
    unescape(fields[4]);
    *out = (struct mount_line){.id = strtol(fields[0], NULL, 10),
                               .parent = strtol(fields[1], NULL, 10),
                               .device = fields[2],
                               .root = fields[3],
                               .point = fields[4],
                               .type = type};
    return true;
}
