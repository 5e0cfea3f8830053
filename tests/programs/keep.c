/* keep OUT IN: reads IN, keeps OUT open for writing, leaves a child in a session of its own, prints its id, and waits.
 *
 * The id is the one that the host knows, where the container has no process namespace of its own.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count != 3 || access(words[2], R_OK) != 0 || open(words[1], O_WRONLY | O_CREAT, 0600) < 0)
        return 1;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        for (;;)
            pause();
    }
    printf("%ld\n", (long)child);
    fflush(stdout);
    for (;;)
        pause();
}
