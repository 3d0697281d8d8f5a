/*-------------------------------------------------------------------------
 *
 * view.c
 *		Declaring feature views: named features of an entity, as of any time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "feature/feature.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

/*
 * The aggregates.  $o is the expression's value, $t the event's time, $p the
 * time as of which the feature is, $f the filter (window and condition).
 */
static const FeatureAggregate aggregates[] = {
	{"count", "count($o)$f", false, true, true, false},
	{"count_distinct", "count(DISTINCT $o)$f", true, true, true, false},
	{"sum", "sum($o)$f", true, true, false, true},
	{"avg", "avg($o)$f", true, true, false, true},
	{"min", "min($o)$f", true, true, false, true},
	{"max", "max($o)$f", true, true, false, true},
	{"stddev", "stddev_samp($o)$f", true, true, false, true},
	{"first", "(array_agg($o ORDER BY $t, ($o)::text)$f)[1]",
	true, true, false, true},
	{"last", "(array_agg($o ORDER BY $t DESC, ($o)::text DESC)$f)[1]",
	true, true, false, true},
	{"recency", "((extract(epoch FROM $p) - extract(epoch FROM max($t)$f)) / 86400)"
	"::float8", false, false, false, true},
	{"age", "((extract(epoch FROM $p) - extract(epoch FROM min($t)$f)) / 86400)"
	"::float8", false, false, false, true}
};

#define LONGEST_WINDOW "1000 years"

static const char *const later_aggregates[] = {
	"trend", "rate", "ewma", "quantile", "as_of", "expr"
};

/* The aggregate of this name; what is not there is refused by name. */
static const FeatureAggregate *
find_aggregate(const char *feature, const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (int i = 0; i < lengthof(aggregates); i++)
	{
		if (strcmp(aggregates[i].name, name) == 0)
			return &aggregates[i];
		appendStringInfo(&known, "%s%s", i ? ", " : "", aggregates[i].name);
	}
	for (int i = 0; i < lengthof(later_aggregates); i++)
		if (strcmp(later_aggregates[i], name) == 0)
			core_not_supported(psprintf("aggregate \"%s\" of feature \"%s\"",
										name, feature),
							   psprintf("Use one of: %s.", known.data));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized aggregate \"%s\" of feature \"%s\"", name,
					feature),
			 errhint("Known aggregates are: %s.", known.data)));
}

/* The interval that the text is. */
static Datum
read_interval(const char *text)
{
	return DirectFunctionCall3(interval_in, CStringGetDatum(text),
							   ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/*
 * An interval greater than zero, spelled so that it can be read again, and
 * so small that an instant less it is still one.
 */
static char *
parse_window(const char *feature, const char *text)
{
	Datum		window;

	if (text == NULL)
		return NULL;
	window = read_interval(text);
	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, window,
										  read_interval("0"))) <= 0 ||
		DatumGetInt32(DirectFunctionCall2(interval_cmp, window,
										  read_interval(LONGEST_WINDOW))) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the window of feature \"%s\" must be greater than "
						"zero and at most %s", feature, LONGEST_WINDOW),
				 errdetail("It is %s.", text)));
	return pstrdup(text);
}

/* One feature of the definition. */
static void
parse_feature(Feature *feature, const char *name, Jsonb *definition)
{
	static const char *const known[] = {
		"agg", "of", "window", "where", "from", "type", NULL
	};
	char	   *aggregate;

	core_check_keys(definition, psprintf("feature \"%s\"", name), known);
	if (core_json_text(definition, "from") != NULL)
		core_not_supported(psprintf("\"from\" of feature \"%s\"", name),
						   "Give an \"agg\" over the source.");
	aggregate = core_json_text(definition, "agg");
	if (aggregate == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("feature \"%s\" has no \"agg\"", name)));
	feature->name = pstrdup(name);
	feature->aggregate = find_aggregate(name, aggregate);
	feature->of = core_json_text(definition, "of");
	feature->where = core_json_text(definition, "where");
	feature->window = parse_window(name, core_json_text(definition, "window"));
	if ((feature->of == NULL && feature->aggregate->needs_of) ||
		(feature->of != NULL && !feature->aggregate->takes_of))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("feature \"%s\" %s \"of\"", name,
						feature->of ? "takes no" : "needs an"),
				 errdetail("Its aggregate is %s.", aggregate)));
	if (feature->of)
		feature_check_expression(psprintf("\"of\" of feature \"%s\"", name),
								 feature->of);
	if (feature->where)
		feature_check_expression(psprintf("\"where\" of feature \"%s\"",
										  name), feature->where);
}

/* A FROM item: the query in parentheses, or the relation's quoted name. */
static char *
source_item(const char *view, const char *source)
{
	List	   *names;
	StringInfoData item;
	ListCell   *cell;

	if (core_is_query(source))
	{
		feature_check_query(psprintf("the source of feature view \"%s\"",
									 view), source);
		return psprintf("(%s\n)", source);
	}
	names = textToQualifiedNameList(cstring_to_text(source));
	initStringInfo(&item);
	foreach(cell, names)
		appendStringInfo(&item, "%s%s", item.len ? "." : "",
						 quote_identifier(strVal(lfirst(cell))));
	return item.data;
}

/* The view of a definition. */
FeatureView *
feature_parse_view(const char *name, Jsonb *definition)
{
	FeatureView *view = palloc0(sizeof(FeatureView));
	Jsonb	   *features = core_json_value(definition, "features");
	char	  **names;

	if (core_json_text(definition, "ttl") != NULL)
		core_not_supported("\"ttl\" of a feature view",
						   "Give the features a \"window\".");
	view->name = pstrdup(name);
	view->entity = core_json_text_array(definition, "entity",
										&view->entity_count);
	view->source = source_item(name, core_json_text(definition, "source"));
	view->event_time = core_json_text(definition, "event_time");
	view->recorded_time = core_json_text(definition, "recorded_time");
	names = core_json_keys(features, &view->feature_count);
	if (view->entity_count == 0 || view->feature_count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("feature view \"%s\" needs an entity and features",
						name)));
	view->features = palloc0(sizeof(Feature) * view->feature_count);
	for (int i = 0; i < view->feature_count; i++)
	{
		core_check_name("feature", names[i]);
		parse_feature(&view->features[i], names[i],
					  core_json_value(features, names[i]));
	}
	return view;
}

/* The declared view of this name. */
FeatureView *
feature_read_view(const char *name)
{
	return feature_parse_view(name,
							  core_find_declaration("feature_view", name,
													false));
}

/* Step of feature_try: analyses what the view asks of its source. */
static void
prepare_view(void *arg)
{
	StringInfoData sql;
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	feature_append_events(&sql, arg);
	plan = SPI_prepare(sql.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare returned %s",
			 SPI_result_code_string(SPI_result));
	SPI_freeplan(plan);
}

/* The context of errors in the user's expressions. */
static void
describe_view(void *arg)
{
	errcontext("feature view \"%s\"", ((FeatureView *) arg)->name);
}

/* Checks the view against its source, where that exists already. */
static void
check_view(FeatureView *view)
{
	ErrorContextCallback context = {.previous = error_context_stack,
	.callback = describe_view,.arg = view};
	char	   *missing;

	error_context_stack = &context;
	core_spi_begin();
	if (!feature_try(prepare_view, view, &missing))
		ereport(NOTICE,
				(errmsg("feature view \"%s\" will be checked when it is "
						"used: %s", view->name, missing)));
	core_spi_end();
	error_context_stack = context.previous;
}

PG_FUNCTION_INFO_V1(visage_create_feature_view);
Datum
visage_create_feature_view(PG_FUNCTION_ARGS)
{
	CoreDeclaration declaration = {.noun = "feature_view"};

	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("name, entity, source, event_time and features "
							"of a feature view must not be null")));
	declaration.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	core_check_name("feature view", declaration.name);
	declaration.definition = core_definition(fcinfo);
	declaration.replace = !PG_ARGISNULL(7) && PG_GETARG_BOOL(7);
	check_view(feature_parse_view(declaration.name, declaration.definition));
	(void) core_declare(&declaration);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_alter_feature_view);
Datum
visage_alter_feature_view(PG_FUNCTION_ARGS)
{
	core_alter("feature_view", text_to_cstring(PG_GETARG_TEXT_PP(0)),
			   PG_GETARG_JSONB_P(1));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(visage_drop_feature_view);
Datum
visage_drop_feature_view(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoreIdentity caller;
	CoreArgs	args = {0};
	char	   *user;

	core_lock_declarations();
	(void) core_find_declaration("feature_view", name, false);
	core_arg_text(&args, name);
	core_spi_begin();
	core_become_owner(&caller);
	user = core_query_text("SELECT name FROM visage.declarations"
						   " WHERE noun = 'training_set'"
						   " AND definition -> 'feature_views' ? $1"
						   " ORDER BY name", &args, CurrentMemoryContext);
	if (user != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("feature view \"%s\" is in use", name),
				 errdetail("Training set \"%s\" is made with it.", user),
				 errhint("Drop the training set first.")));
	core_forget_declaration("feature_view", name);
	core_become_caller(&caller);
	core_spi_end();
	PG_RETURN_VOID();
}
