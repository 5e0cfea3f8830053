/* Heat flow on a square plate, as a solver in C that a laboratory has had for years: steps, states on disk, and -r.
 *
 * heat -n STEPS -c EVERY -o OUT [-r STATE] [-s MILLISECONDS_PER_STEP] [-g GATES] [-b]
 *
 * OUT/state-<step>.bin is written as a temporary file, synced and renamed. Standard output is flushed line by line;
 * with -b in blocks, as the C library does it where nobody asks for more. After a step it waits while GATES has a file
 * with its number.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIDE 64

struct state {
    char magic[8];
    long step;
    double heat[SIDE][SIDE];
};

static struct state now, next;

static void fail(const char *name) {
    perror(name);
    exit(1);
}

static void begin(void) {
    memcpy(now.magic, "HEAT 1\n", 8);
    for (int x = 0; x < SIDE; x++)
        now.heat[0][x] = sin(3.0 * (x + 1) / SIDE); /* the warm edge */
}

static void load(const char *name) {
    FILE *file = fopen(name, "rb");
    if (file == NULL)
        fail(name);
    if (fread(&now, sizeof now, 1, file) != 1 || memcmp(now.magic, "HEAT 1\n", 8) != 0) {
        fprintf(stderr, "%s: not a whole state\n", name);
        exit(2);
    }
    fclose(file);
}

static void save(const char *out) {
    char name[4096], temporary[4096 + 8];
    snprintf(name, sizeof name, "%s/state-%ld.bin", out, now.step);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    FILE *file = fopen(temporary, "wb");
    if (file == NULL || fwrite(&now, sizeof now, 1, file) != 1 || fflush(file) != 0 || fsync(fileno(file)) != 0)
        fail(temporary);
    fclose(file);
    if (rename(temporary, name) != 0)
        fail(name);
    int directory = open(out, O_RDONLY);
    if (directory < 0 || fsync(directory) != 0)
        fail(out);
    close(directory);
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

static double advance(void) {
    double residual = 0;
    next = now;
    for (int y = 1; y < SIDE - 1; y++)
        for (int x = 1; x < SIDE - 1; x++) {
            double around = now.heat[y - 1][x] + now.heat[y + 1][x] + now.heat[y][x - 1] + now.heat[y][x + 1];
            next.heat[y][x] = around / 4;
            residual += fabs(next.heat[y][x] - now.heat[y][x]);
        }
    now = next;
    now.step++;
    return residual;
}

int main(int count, char **words) {
    long steps = 100, every = 10, pause = 0;
    const char *out = "out", *resume = NULL, *gates = NULL;
    int option, lines = 1;
    while ((option = getopt(count, words, "n:c:o:r:s:g:b")) != -1)
        switch (option) {
        case 'n': steps = atol(optarg); break;
        case 'c': every = atol(optarg); break;
        case 'o': out = optarg; break;
        case 'r': resume = optarg; break;
        case 's': pause = atol(optarg); break;
        case 'g': gates = optarg; break;
        case 'b': lines = 0; break;
        default: return 64;
        }
    if (lines)
        setvbuf(stdout, NULL, _IOLBF, 0);
    mkdir(out, 0777);
    begin();
    if (resume != NULL)
        load(resume);
    while (now.step < steps) {
        rest(pause);
        double residual = advance();
        printf("step %ld residual %.9e\n", now.step, residual);
        if (gates != NULL)
            wait_at_gate(gates);
        if (now.step % every == 0 || now.step == steps)
            save(out);
    }
    return 0;
}
