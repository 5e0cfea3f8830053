int main(void) { return 0; } /* the command `true`, for images without an operating system */
