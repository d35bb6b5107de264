// Runs the library for an emulated processor: a byte on standard input is a call, and a byte comes back when it is done.
//
// What a call needs is in the file that is named, and becomes memory at BASE: first the number of the function and its
// arguments, room for what it returns, and then all that they point to.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE (int64_t(1) << 32)

#define NAMED_(name, set) name##set
#define NAMED(name, set) NAMED_(name, set)
extern "C" {
void NAMED(streamcodec_step_, SET)(const void *plan, const void *call);
void NAMED(streamcodec_keep_, SET)(const void *plan, const void *call);
void NAMED(streamcodec_search_, SET)(const void *of);
void NAMED(streamcodec_affine_, SET)(const void *of);
void NAMED(streamcodec_lookup_, SET)(const void *of);
void NAMED(streamcodec_panel_, SET)(int64_t *sizes);
int64_t NAMED(streamcodec_int8_, SET)(const void *of);
int64_t NAMED(streamcodec_push_, SET)(const void *plan, const void *call, const void *push);
void streamcodec_sizes(int64_t *sizes);
}

static void call(int64_t *head) {
    void *first = (void *)head[1], *second = (void *)head[2];
    switch (head[0]) {
    case 0: return NAMED(streamcodec_step_, SET)(first, second);
    case 1: return NAMED(streamcodec_search_, SET)(first);
    case 2: return NAMED(streamcodec_affine_, SET)(first);
    case 3: return NAMED(streamcodec_lookup_, SET)(first);
    case 4: return NAMED(streamcodec_panel_, SET)((int64_t *)first);
    case 5: return streamcodec_sizes((int64_t *)first);
    case 6: head[4] = NAMED(streamcodec_int8_, SET)(first); return;
    case 7: return NAMED(streamcodec_keep_, SET)(first, second);
    case 8: head[4] = NAMED(streamcodec_push_, SET)(first, second, (void *)head[3]); return;
    default: exit(2);
    }
}

int main(int, char **arguments) {
    char byte;
    while (read(0, &byte, 1) == 1) {
        int file = open(arguments[1], O_RDWR);
        struct stat about;
        if (file < 0 || fstat(file, &about)) return 3;
        void *memory = mmap((void *)BASE, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
        if (memory != (void *)BASE) return 4;
        call((int64_t *)memory);
        munmap(memory, about.st_size);
        close(file);
        if (write(1, &byte, 1) != 1) return 5;
    }
    return 0;
}
