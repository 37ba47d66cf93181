/* SPDX-License-Identifier: MIT */
/*
 * Holds the lock of `bindings` for tests: takes it on the board of the
 * runtime-dir that it is given, says so, and keeps it until its standard input
 * ends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/board.h"

int
main(int argc, char **argv)
{
	struct board *board;

	if (argc != 2 || board_open_worker(argv[1], &board) < 0 ||
	    board_bind_lock(board, 1000) != 0)
		return EXIT_FAILURE;
	(void)puts("held");
	(void)fflush(stdout);
	while (getchar() != EOF)
		continue;
	board_bind_unlock(board);
	return EXIT_SUCCESS;
}
