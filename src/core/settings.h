/*-------------------------------------------------------------------------
 *
 * settings.h
 *		Where visage.c registers the settings, and how rooms read them.
 *
 * The variables live in visage.so; visage_net.so reads settings by name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VISAGE_SETTINGS_H
#define VISAGE_SETTINGS_H

extern void core_define_settings(void);

/* In setting.c, linked into every library. */
extern const char *core_setting(const char *name);
extern int64 core_setting_int(const char *name);

#endif							/* VISAGE_SETTINGS_H */
