/*
 * plugged NAME DEEP
 *
 * Loads a library that lies beside the program, by its name alone, with RTLD_DEEPBIND if DEEP is not 0. Blocks of one are freed by the other.
 */
#include "check.h"

#include <dlfcn.h>

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | (number(argv[2]) ? RTLD_DEEPBIND : 0));
	if (!library)
		FAIL("%s\n", dlerror());
	char *(*visit)(char *) = (char *(*)(char *))dlsym(library, "visit");
	CHECK(visit);
	for (int round = 0; round < 100; round++) {
		char *block = malloc(300000);
		CHECK(block);
		strcpy(block, "a block");
		block = visit(block);
		CHECK(!strcmp(block, "a block, visited"));
		free(block);
	}
	CHECK(dlclose(library) == 0);
	puts("all blocks are freed");
	return 0;
}
