/* SPDX-License-Identifier: MIT */
#include "master/ctl/table.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/str.h"

enum { CELL_MAX = 4096, GAP = 2 };

struct grid {
	const struct table_column *columns;
	size_t ncolumns, nrows;
	char **cells; /* row by row */
	size_t widths[TABLE_COLUMNS_MAX];
};

static void
write_list(const cJSON *list, struct buf *out)
{
	const cJSON *item;

	cJSON_ArrayForEach (item, list) {
		if (item != list->child)
			buf_putc(out, ',');
		table_write_value(item, out);
	}
}

void
table_write_value(const cJSON *value, struct buf *out)
{
	if (cJSON_IsString(value) && *value->valuestring != '\0')
		buf_puts(out, value->valuestring);
	else if (cJSON_IsNumber(value))
		buf_printf(out, "%.15g", value->valuedouble);
	else if (cJSON_IsBool(value))
		buf_puts(out, cJSON_IsTrue(value) ? "yes" : "no");
	else if (cJSON_IsArray(value) && value->child != NULL)
		write_list(value, out);
	else
		buf_putc(out, '-');
}

void
table_write_seconds(const cJSON *value, struct buf *out)
{
	char text[64];

	if (!cJSON_IsNumber(value)) {
		buf_putc(out, '-');
		return;
	}
	str_from_duration_ms(
	    (int64_t)value->valuedouble * 1000, text, sizeof(text));
	buf_puts(out, text);
}

/* A value of several lines, such as a list of the configuration, on one. */
static void
join_lines(char *cell)
{
	char *from, *to = cell;

	for (from = cell; *from != '\0'; from++) {
		if (!isspace((unsigned char)*from))
			*to++ = *from;
		else if (to > cell && to[-1] != ' ')
			*to++ = ' ';
	}
	*to = '\0';
}

static char *
make_cell(const struct table_column *column, const cJSON *row)
{
	struct buf text = BUF_INIT(CELL_MAX);
	const cJSON *value = cJSON_GetObjectItem(row, column->field);
	char *cell;

	(column->write != NULL ? column->write : table_write_value)(
	    value, &text);
	cell = xstrdup(buf_string(&text));
	join_lines(cell);
	buf_fini(&text);
	return cell;
}

static void
fill(struct grid *g, const cJSON *rows)
{
	const cJSON *row;
	char **cell;
	size_t i, len;

	g->nrows = (size_t)cJSON_GetArraySize(rows);
	g->cells = xcalloc(g->nrows * g->ncolumns, sizeof(g->cells[0]));
	cell = g->cells;
	for (i = 0; i < g->ncolumns; i++)
		g->widths[i] = strlen(g->columns[i].title);
	cJSON_ArrayForEach (row, rows) {
		for (i = 0; i < g->ncolumns; i++, cell++) {
			*cell = make_cell(&g->columns[i], row);
			len = strlen(*cell);
			if (len > g->widths[i])
				g->widths[i] = len;
		}
	}
}

/* The widest column that can still give something; NULL if none can. */
static size_t *
widest(struct grid *g)
{
	size_t *found = NULL;
	size_t i;

	for (i = 0; i < g->ncolumns; i++) {
		if (g->columns[i].cut_to > 0 &&
		    g->widths[i] > g->columns[i].cut_to &&
		    (found == NULL || g->widths[i] > *found))
			found = &g->widths[i];
	}
	return found;
}

static void
fit(struct grid *g)
{
	size_t total = GAP * (g->ncolumns - 1);
	size_t i, *w;

	for (i = 0; i < g->ncolumns; i++)
		total += g->widths[i];
	while (total > TABLE_WIDTH && (w = widest(g)) != NULL) {
		(*w)--;
		total--;
	}
}

/* What does not fit ends in a tilde. */
static void
print_cell(FILE *out, const struct grid *g, size_t i, const char *text)
{
	int width = (int)g->widths[i];
	bool last = i + 1 == g->ncolumns;

	if (strlen(text) > g->widths[i])
		(void)fprintf(out, "%.*s~", width - 1, text);
	else if (last && !g->columns[i].right)
		(void)fputs(text, out);
	else
		(void)fprintf(
		    out, "%*s", g->columns[i].right ? width : -width, text);
	(void)fprintf(out, "%*s", last ? 0 : GAP, "");
}

static void
print_rows(FILE *out, const struct grid *g)
{
	size_t i, row;

	for (i = 0; i < g->ncolumns; i++)
		print_cell(out, g, i, g->columns[i].title);
	(void)fputc('\n', out);
	for (row = 0; row < g->nrows; row++) {
		for (i = 0; i < g->ncolumns; i++)
			print_cell(out, g, i, g->cells[row * g->ncolumns + i]);
		(void)fputc('\n', out);
	}
}

void
table_print(FILE *out, const struct table_column *columns, size_t ncolumns,
    const cJSON *rows)
{
	struct grid g = { .columns = columns, .ncolumns = ncolumns };
	size_t i;

	assert(ncolumns > 0 && ncolumns <= TABLE_COLUMNS_MAX);
	if (cJSON_GetArraySize(rows) == 0)
		return;
	fill(&g, rows);
	fit(&g);
	print_rows(out, &g);
	for (i = 0; i < g.nrows * g.ncolumns; i++)
		free(g.cells[i]);
	free(g.cells);
}
