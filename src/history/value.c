/*-------------------------------------------------------------------------
 *
 * value.c
 *		Are two values the same, and what is the hash of a row?
 *
 * Values of a type with an equality are compared by it: numeric 1.5 is 1.50,
 * a jsonb object is the same in any order, a case-insensitive collation
 * counts.  Equal bits are equal in every type, which is looked at first and
 * decides nearly always.  A type without equality (json, point, xml) is
 * compared by its image.  NULLs are the same.
 *
 * The hash of a row is the sum of its columns' hashes, each seeded with the
 * column's name; a NULL adds nothing.  So it does not depend on the order of
 * the columns, nor changes when a column is added.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "history/history.h"
#include "utils/datum.h"
#include "utils/typcache.h"

/* Finds the functions of a column's type. */
void
history_prepare_column(HistoryColumn *column)
{
	TypeCacheEntry *type = lookup_type_cache(column->type_oid,
											 TYPECACHE_EQ_OPR_FINFO |
											 TYPECACHE_CMP_PROC_FINFO |
											 TYPECACHE_HASH_EXTENDED_PROC_FINFO);

	column->by_value = type->typbyval;
	column->length = type->typlen;
	column->has_equality = OidIsValid(type->eq_opr);
	column->has_hash = OidIsValid(type->hash_extended_proc);
	column->has_order = OidIsValid(type->cmp_proc);
	if (column->has_equality)
		fmgr_info_copy(&column->equality, &type->eq_opr_finfo,
					   CurrentMemoryContext);
	if (column->has_hash)
		fmgr_info_copy(&column->hash, &type->hash_extended_proc_finfo,
					   CurrentMemoryContext);
	if (column->has_order)
		fmgr_info_copy(&column->order, &type->cmp_proc_finfo,
					   CurrentMemoryContext);
	column->seed = hash_bytes_extended((const unsigned char *) column->name,
									   strlen(column->name), 0);
}

/* Are the bits of two values of variable length the same? */
static inline bool
same_bits(const void *a, const void *b)
{
	Size		length;

	if (VARATT_IS_EXTERNAL(a) || VARATT_IS_EXTERNAL(b) ||
		VARATT_IS_COMPRESSED(a) || VARATT_IS_COMPRESSED(b))
		return false;
	length = VARSIZE_ANY_EXHDR(a);
	return length == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), length) == 0;
}

/* Two values, neither of them NULL. */
bool
history_same(HistoryColumn *column, Datum a, Datum b)
{
	if (column->by_value)
	{
		if (a == b)
			return true;
	}
	else if (column->length == -1)
	{
		if (same_bits(DatumGetPointer(a), DatumGetPointer(b)))
			return true;
	}
	else if (column->length > 0 &&
			 memcmp(DatumGetPointer(a), DatumGetPointer(b),
					column->length) == 0)
		return true;
	if (column->has_equality)
		return DatumGetBool(FunctionCall2Coll(&column->equality,
											  column->collation, a, b));
	return datum_image_eq(a, b, column->by_value, column->length);
}

/* Columns of these roles, where both sides know them. */
bool
history_same_columns(History *history, int roles, const Datum *values,
					 const bool *nulls, const Bitmapset *unknown,
					 const Datum *other_values, const bool *other_nulls,
					 const Bitmapset *other_unknown)
{
	if (values == other_values && nulls == other_nulls)
		return true;
	for (int i = 0; i < history->column_count; i++)
	{
		HistoryColumn *column = &history->columns[i];

		if ((HISTORY_ROLE(column->role) & roles) == 0 ||
			(unknown && bms_is_member(i, unknown)) ||
			(other_unknown && bms_is_member(i, other_unknown)))
			continue;
		if (nulls[i] != other_nulls[i] ||
			(!nulls[i] && !history_same(column, values[i], other_values[i])))
			return false;
	}
	return true;
}

static inline uint64
hash_value(HistoryColumn *column, Datum value)
{
	if (column->has_hash)
		return DatumGetUInt64(FunctionCall2Coll(&column->hash,
												column->collation, value,
												UInt64GetDatum(column->seed)));
	/* what its equality calls equal must have one hash */
	if (column->has_equality)
		return column->seed;
	return hash_combine64(column->seed,
						  datum_image_hash(value, column->by_value,
										   column->length));
}

/* The hash of one value, which orders it among others of its column. */
int64
history_value_hash(HistoryColumn *column, Datum value, bool isnull)
{
	return isnull ? 0 : (int64) hash_value(column, value);
}

/* The hash of the columns of these roles. */
uint64
history_hash(History *history, int roles, const Datum *values,
			 const bool *nulls)
{
	uint64		hash = 0;

	for (int i = 0; i < history->column_count; i++)
		if ((HISTORY_ROLE(history->columns[i].role) & roles) && !nulls[i])
			hash += hash_value(&history->columns[i], values[i]);
	return hash;
}

uint64
history_key_hash(History *history, const Datum *values)
{
	uint64		hash = 0;

	for (int i = 0; i < history->key_count; i++)
	{
		int			c = history->key_columns[i];

		hash += hash_value(&history->columns[c], values[c]);
	}
	return hash;
}

bool
history_same_key(History *history, const Datum *a, const Datum *b)
{
	for (int i = 0; i < history->key_count; i++)
	{
		int			c = history->key_columns[i];

		if (!history_same(&history->columns[c], a[c], b[c]))
			return false;
	}
	return true;
}

/*
 * The order of two facts by time and then by what breaks ties, NULL first.
 * Zero: their whole sequence is the same.
 */
int
history_compare_sequence(History *history, const HistoryFact *a,
						 const HistoryFact *b)
{
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	for (int i = 1; i < history->sequence_count; i++)
	{
		int			c = history->sequence_columns[i];
		int			order;

		if (a->nulls[c] || b->nulls[c])
		{
			if (a->nulls[c] != b->nulls[c])
				return a->nulls[c] ? -1 : 1;
			continue;
		}
		order = DatumGetInt32(FunctionCall2Coll(&history->columns[c].order,
												history->columns[c].collation,
												a->values[c], b->values[c]));
		if (order != 0)
			return order;
	}
	return 0;
}
