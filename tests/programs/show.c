/* Shows what reached a program: its arguments and the variables named after `-names-`, each in brackets on lines of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    int are_names = 0;
    for (int place = 1; place < count; place++) {
        const char *value = are_names ? getenv(words[place]) : words[place];
        if (!are_names && strcmp(words[place], "-names-") == 0)
            are_names = 1;
        else
            printf("%s[%s]\n", are_names ? words[place] : "", value ? value : "(unset)");
    }
    return 0;
}
