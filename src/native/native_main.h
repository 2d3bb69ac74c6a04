/* native_main.h - the one door from the program skate-worker into libskate.so. */
#ifndef SKATE_NATIVE_NATIVE_MAIN_H
#define SKATE_NATIVE_NATIVE_MAIN_H

/* Serve the node whose socket is descriptor 3 until it is over; the exit status. BLOCKS. */
__attribute__((visibility("default"))) int skate_native_main(void);

#endif
