/* Replays inputs through a fuzz target under the normal compiler: each argument is a file. The
   empty input is always tried first. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads a whole file into a buffer of exactly its size, so that a sanitizer sees each byte read
   beyond it. The caller frees it; NULL with errno set on failure. */
static uint8_t *file_read(const char *path, size_t *size)
{
    uint8_t *data = NULL;
    long length = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0) {
        length = ftell(file);
    }
    if (length < 0 || fseek(file, 0, SEEK_SET) != 0) {
        goto out;
    }
    *size = (size_t)length;
    data = malloc(*size > 0 ? *size : 1);
    if (data != NULL && fread(data, 1, *size, file) != *size) {
        free(data);
        data = NULL;
        errno = EIO;
    }
out:
    (void)fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    static const uint8_t nothing[1];
    LLVMFuzzerTestOneInput(nothing, 0);
    for (int i = 1; i < argc; i++) {
        size_t size = 0;
        uint8_t *data = file_read(argv[i], &size);
        if (data == NULL) {
            fprintf(stderr, "replay: reading %s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        /* A crash leaves this as the last line. */
        fprintf(stderr, "replay: %s\n", argv[i]);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
