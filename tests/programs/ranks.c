/* Ranks that compute together. They meet by RANK, WORLD_SIZE, MASTER_ADDR (in digits) and MASTER_PORT.
 *
 * ranks -n STEPS -c EVERY -o OUT [-r STATE] [-s MILLISECONDS_PER_STEP] [-g GATES]
 *
 * In each step every rank needs a word of each other one. Rank 0 writes OUT/state-<step>.bin as a temporary file, and
 * renames it. A rank that loses another one exits with 1. After a step all wait while GATES has a file with its number.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST 16

struct state {
    long step;
    unsigned long long words[MOST];
    double weight;
};

static struct state now;
static int rank, size, peers[MOST];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int number(const char *name) {
    const char *text = getenv(name);
    if (text == NULL) {
        fprintf(stderr, "%s is not set\n", name);
        exit(64);
    }
    return atoi(text);
}

static void give(int peer, const void *bytes, size_t count) {
    if (send(peer, bytes, count, MSG_NOSIGNAL) != (ssize_t)count)
        fail("Connection closed by peer");
}

static void take(int peer, void *bytes, size_t count) {
    if (recv(peer, bytes, count, MSG_WAITALL) != (ssize_t)count) {
        fprintf(stderr, "Connection closed by peer\n");
        exit(1);
    }
}

static void rest(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void wait_at_gate(const char *gates) {
    char name[4096];
    snprintf(name, sizeof name, "%s/%ld", gates, now.step);
    while (access(name, F_OK) == 0)
        rest(20);
}

static void meet(void) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(number("MASTER_PORT"))};
    int yes = 1, door = socket(AF_INET, SOCK_STREAM, 0);
    if (rank == 0) {
        setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(door, (struct sockaddr *)&place, sizeof place) != 0 || listen(door, size) != 0)
            fail("listen");
        for (int count = 1; count < size; count++) {
            int other, peer = accept(door, NULL, NULL);
            take(peer, &other, sizeof other);
            peers[other] = peer;
        }
        return;
    }
    const char *address = getenv("MASTER_ADDR");
    if (address == NULL || inet_pton(AF_INET, address, &place.sin_addr) != 1)
        fail("MASTER_ADDR");
    for (int tries = 0; connect(door, (struct sockaddr *)&place, sizeof place) != 0; tries++) {
        if (tries == 2400) /* two minutes */
            fail("connect");
        close(door);
        rest(50);
        door = socket(AF_INET, SOCK_STREAM, 0);
    }
    peers[0] = door;
    give(door, &rank, sizeof rank);
}

static void gather(void) {
    if (rank == 0) {
        for (int other = 1; other < size; other++)
            take(peers[other], &now.words[other], sizeof now.words[other]);
        for (int other = 1; other < size; other++)
            give(peers[other], now.words, sizeof now.words);
    } else {
        give(peers[0], &now.words[rank], sizeof now.words[rank]);
        take(peers[0], now.words, sizeof now.words);
    }
}

static void save(const char *out) {
    char name[4096], temporary[4096 + 8];
    snprintf(name, sizeof name, "%s/state-%ld.bin", out, now.step);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    FILE *file = fopen(temporary, "wb");
    if (file == NULL || fwrite(&now, sizeof now, 1, file) != 1 || fclose(file) != 0 || rename(temporary, name) != 0)
        fail(temporary);
}

int main(int count, char **words) {
    long steps = 100, every = 10, pause = 0;
    const char *out = "out", *resume = NULL, *gates = NULL;
    int option;
    while ((option = getopt(count, words, "n:c:o:r:s:g:")) != -1)
        switch (option) {
        case 'n': steps = atol(optarg); break;
        case 'c': every = atol(optarg); break;
        case 'o': out = optarg; break;
        case 'r': resume = optarg; break;
        case 's': pause = atol(optarg); break;
        case 'g': gates = optarg; break;
        default: return 64;
        }
    setvbuf(stdout, NULL, _IOLBF, 0);
    rank = number("RANK");
    size = number("WORLD_SIZE");
    now.weight = 1;
    for (int each = 0; each < size; each++)
        now.words[each] = each;
    FILE *file = resume == NULL ? NULL : fopen(resume, "rb");
    if (resume != NULL && (file == NULL || fread(&now, sizeof now, 1, file) != 1))
        fail(resume);
    mkdir(out, 0777);
    meet();
    while (now.step < steps) {
        rest(pause);
        now.words[rank] = now.words[rank] * 6364136223846793005ULL + 1442695040888963407ULL;
        gather();
        for (int each = 0; each < size; each++)
            now.weight -= 0.1 * (now.weight + now.words[each] / 18446744073709551616.0 - 0.5) / size;
        now.step++;
        if (rank == 0) {
            printf("step %ld residual %.9e\n", now.step, now.weight);
            if (now.step % every == 0 || now.step == steps)
                save(out);
        }
        if (gates != NULL)
            wait_at_gate(gates);
    }
    return 0;
}
