#include <stdio.h>

int main(void) {
    puts("compiled in one stage, run in another");
    return 0;
}
