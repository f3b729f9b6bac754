/* A library that a program loads: memory of its own, of libc's, and of the program's. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Uses what libc allocates. Returns a block for the program to free. */
char *visit(char *block);

char *visit(char *block)
{
	char *text = NULL, *copy = strdup(block);
	free(block);
	if (!copy || asprintf(&text, "%s, %s", copy, "visited") < 0)
		abort();
	free(copy);
	char *own = malloc(1 << 20);
	if (!own)
		abort();
	strcpy(own, text);
	free(text);
	return own;
}
