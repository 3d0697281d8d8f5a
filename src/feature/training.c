/*-------------------------------------------------------------------------
 *
 * training.c
 *		Training sets: labels with the features as they were at their times.
 *
 * The query runs as the caller, into a temporary table; its rows then become
 * enriched.<name>, which the extension's owner owns.  So a failure leaves
 * the old rows, and a reader sees the old or the new ones.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "feature/feature.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define BUILT "visage_training_set"

typedef struct TrainingSet
{
	char	   *name;
	char	   *table;			/* qualified and quoted */
	char	   *labels;
	char	   *known_at;
	FeatureView **views;
	int			view_count;
	TupleDesc	label_columns;	/* of the labels, once they have been asked */
	int64		rows;
} TrainingSet;

/* The training set of a definition. */
static TrainingSet *
read_training_set(const char *name, Jsonb *definition)
{
	TrainingSet *set = palloc0(sizeof(TrainingSet));
	char	  **views = core_json_text_array(definition, "feature_views",
											 &set->view_count);

	set->name = pstrdup(name);
	set->table = core_qualified(CORE_LAYER_ENRICHED, name);
	set->labels = core_json_text(definition, "labels");
	set->known_at = core_json_text(definition, "known_at");
	set->views = palloc(sizeof(FeatureView *) * Max(set->view_count, 1));
	for (int i = 0; i < set->view_count; i++)
		set->views[i] = feature_read_view(views[i]);
	feature_check_query(psprintf("\"labels\" of training set \"%s\"", name),
						set->labels);
	return set;
}

/* The columns of a query, found by asking for no row. */
static TupleDesc
query_columns(const char *query)
{
	core_execute(psprintf("SELECT * FROM (%s\n) AS q LIMIT 0", query), NULL,
				 SPI_OK_SELECT);
	return CreateTupleDescCopy(SPI_tuptable->tupdesc);
}

/* The names of the labels' columns. */
static char **
label_names(TrainingSet *set, int *count)
{
	char	  **names;

	set->label_columns = query_columns(set->labels);
	*count = set->label_columns->natts;
	names = palloc(sizeof(char *) * *count);
	for (int i = 0; i < *count; i++)
		names[i] = pstrdup(NameStr(TupleDescAttr(set->label_columns,
												 i)->attname));
	return names;
}

static bool
is_among(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The labels need the entities of all views, event_time and label. */
static void
check_labels(const TrainingSet *set, char **names, int count)
{
	static const char *const required[] = {"event_time", "label"};

	for (int i = 0; i < lengthof(required); i++)
		if (!is_among(required[i], names, count))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("the labels of training set \"%s\" have no "
							"column \"%s\"", set->name, required[i])));
	for (int i = 0; i < set->view_count; i++)
		for (int j = 0; j < set->views[i]->entity_count; j++)
			if (!is_among(set->views[i]->entity[j], names, count))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("the labels of training set \"%s\" have no "
								"column \"%s\"", set->name,
								set->views[i]->entity[j]),
						 errdetail("It is an entity column of feature view "
								   "\"%s\".", set->views[i]->name)));
}

/* Is there an = for the two types, as the parser looks for one? */
static bool
can_compare(Oid left, Oid right)
{
	Operator	operator = oper(NULL, list_make1(makeString("=")), left,
								right, true, -1);

	if (operator == NULL)
		return false;
	ReleaseSysCache(operator);
	return true;
}

/* An entity's column of the labels can be compared with the view's. */
static void
check_entity_type(const TrainingSet *set, const char *view,
				  const char *entity, Oid view_type)
{
	for (int i = 0; i < set->label_columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(set->label_columns, i);

		if (strcmp(NameStr(column->attname), entity) != 0 ||
			can_compare(view_type, column->atttypid))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the labels of training set \"%s\" have another type "
						"of \"%s\" than feature view \"%s\"", set->name,
						entity, view),
				 errdetail("It is %s in the labels and %s in the view.",
						   format_type_be(column->atttypid),
						   format_type_be(view_type)),
				 errhint("Cast it in the query of the labels.")));
	}
}

/* The entities of all views. */
static void
check_entity_types(const TrainingSet *set)
{
	for (int i = 0; i < set->view_count; i++)
	{
		const FeatureView *view = set->views[i];
		StringInfoData events;
		TupleDesc	columns;

		initStringInfo(&events);
		feature_append_events(&events, view);
		columns = query_columns(events.data);
		for (int j = 0; j < view->entity_count; j++)
			check_entity_type(set, view->name, view->entity[j],
							  TupleDescAttr(columns, j)->atttypid);
	}
}

/* Columns of the labels have names, each once, and none of the query's own. */
static void
check_label_names(const TrainingSet *set, char **names, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (is_among(names[i], names, i))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("the labels of training set \"%s\" have two "
							"columns \"%s\"", set->name, names[i])));
		if (strncmp(names[i], "visage_", 7) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("column \"%s\" of the labels of training set "
							"\"%s\" has a reserved name", names[i],
							set->name),
					 errdetail("Names that begin with \"visage_\" are the "
							   "extension's own."),
					 errhint("Give the column another name in the query.")));
	}
}

/* No column of the result may have two meanings. */
static void
check_clash(const TrainingSet *set, char **names, int count)
{
	int			total = count;
	char	  **all;

	for (int i = 0; i < set->view_count; i++)
		total += set->views[i]->feature_count;
	all = palloc(sizeof(char *) * Max(total, 1));
	memcpy(all, names, sizeof(char *) * count);
	for (int i = 0; i < set->view_count; i++)
		for (int j = 0; j < set->views[i]->feature_count; j++)
		{
			char	   *name = set->views[i]->features[j].name;

			if (is_among(name, all, count))
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("training set \"%s\" would have two columns "
								"\"%s\"", set->name, name),
						 errdetail("One is a feature of view \"%s\".",
								   set->views[i]->name)));
			all[count++] = name;
		}
}

/* "l.a, l.b" of the labels. */
static char *
label_list(char **names, int count)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%sl.%s", i ? ", " : "",
						 quote_identifier(names[i]));
	return list.data;
}

/* Step of feature_try: computes the rows, as the caller. */
static void
build(void *arg)
{
	TrainingSet *set = arg;
	int			count;
	char	  **names = label_names(set, &count);

	check_label_names(set, names, count);
	check_labels(set, names, count);
	check_clash(set, names, count);
	check_entity_types(set);
	core_execute(psprintf("CREATE TEMPORARY TABLE " BUILT
						  " ON COMMIT DROP AS %s",
						  feature_query(set->views, set->view_count,
										set->labels,
										label_list(names, count),
										set->known_at)),
				 NULL, SPI_OK_UTILITY);
	set->rows = core_query_int8("SELECT count(*) FROM pg_temp." BUILT, NULL,
								0);
}

/* Have the new rows the columns of the old ones? */
static bool
has_same_columns(const TrainingSet *set)
{
	CoreArgs	args = {0};

	core_arg_text(&args, set->table);
	return core_query_int8("SELECT count(*) FROM ("
						   " SELECT attname, atttypid, atttypmod, attnum"
						   " FROM pg_attribute WHERE attrelid ="
						   " 'pg_temp." BUILT "'::regclass AND attnum > 0) AS n"
						   " FULL JOIN ("
						   " SELECT attname, atttypid, atttypmod, attnum"
						   " FROM pg_attribute WHERE attrelid = $1::regclass"
						   " AND attnum > 0) AS o"
						   " USING (attname, atttypid, atttypmod, attnum)"
						   " WHERE n IS NULL OR o IS NULL", &args, 1) == 0;
}

/* The rows become the dataset, in this transaction. */
static void
swap(const TrainingSet *set)
{
	CoreIdentity caller;
	bool		exists;

	core_become_owner(&caller);
	exists = OidIsValid(core_own_table(CORE_LAYER_ENRICHED, set->name));
	if (exists && has_same_columns(set))
	{
		core_execute(psprintf("TRUNCATE %s", set->table), NULL,
					 SPI_OK_UTILITY);
		core_execute(psprintf("INSERT INTO %s SELECT * FROM pg_temp." BUILT,
							  set->table), NULL, SPI_OK_INSERT);
	}
	else
	{
		(void) core_layer_schema(CORE_LAYER_ENRICHED);
		core_drop_dataset(CORE_LAYER_ENRICHED, set->name);
		core_execute(psprintf("CREATE TABLE %s AS"
							  " SELECT * FROM pg_temp." BUILT, set->table),
					 NULL, SPI_OK_UTILITY);
		core_register_dataset(CORE_LAYER_ENRICHED, set->name, "training_set",
							  set->name);
	}
	core_become_caller(&caller);
	core_execute("DROP TABLE pg_temp." BUILT, NULL, SPI_OK_UTILITY);
}

/* Computes the set and makes it the dataset. */
static void
refresh(TrainingSet *set)
{
	int			nest_level = core_begin_utc();
	char	   *missing;

	core_spi_begin();
	if (feature_try(build, set, &missing))
		swap(set);
	else
		ereport(NOTICE,
				(errmsg("training set \"%s\" is declared, but not made yet: "
						"%s", set->name, missing),
				 errhint("Run CALL visage_refresh('enriched.%s') when its "
						 "sources exist.", set->name)));
	core_spi_end();
	core_end_utc(nest_level);
}

/* The rows that a training set has now. */
static int64
count_rows(const TrainingSet *set)
{
	CoreIdentity caller;
	int64		rows;

	core_spi_begin();
	core_become_owner(&caller);
	rows = core_query_int8(psprintf("SELECT count(*) FROM %s", set->table),
						   NULL, 0);
	core_become_caller(&caller);
	core_spi_end();
	return rows;
}

PG_FUNCTION_INFO_V1(visage_create_training_set);
Datum
visage_create_training_set(PG_FUNCTION_ARGS)
{
	CoreDeclaration declaration = {.noun = "training_set"};
	TrainingSet *set;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("name, labels and feature_views of a training "
							"set must not be null")));
	declaration.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("training set", declaration.name);
	declaration.definition = core_definition(fcinfo);
	declaration.replace = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	core_lock_declarations();
	set = read_training_set(declaration.name, declaration.definition);
	if (core_declare(&declaration) == CORE_DECLARED_SAME &&
		OidIsValid(core_table_oid(CORE_LAYER_ENRICHED, set->name)))
		PG_RETURN_INT64(count_rows(set));
	refresh(set);
	PG_RETURN_INT64(set->rows);
}

/* CALL visage_refresh(dataset): the same definition, the data of today. */
PG_FUNCTION_INFO_V1(visage_refresh);
Datum
visage_refresh(PG_FUNCTION_ARGS)
{
	char	   *dataset;
	char	   *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"dataset\" must not be null")));
	dataset = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strncmp(dataset, "enriched.", 9) != 0)
		core_not_supported(psprintf("refreshing dataset \"%s\"", dataset),
						   "Training sets, \"enriched.name\", can be "
						   "refreshed.");
	name = core_dataset_table(dataset, CORE_LAYER_ENRICHED);
	refresh(read_training_set(name, core_find_declaration("training_set",
														  name, false)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_training_set);
Datum
visage_drop_training_set(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		keep_data = PG_GETARG_BOOL(1);
	CoreIdentity caller;

	core_lock_declarations();
	(void) core_find_declaration("training_set", name, false);
	core_spi_begin();
	core_become_owner(&caller);
	if (!keep_data)
		core_drop_dataset(CORE_LAYER_ENRICHED, name);
	core_forget_declaration("training_set", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}
