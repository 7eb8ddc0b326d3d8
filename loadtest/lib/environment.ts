/** The settings of this run, read where k6 has them. */
import { readSetting, type SettingName } from './settings.ts'

/** A setting of this run. @throws Error that says what to write. */
export const setting = <N extends SettingName>(name: N) => readSetting<N>(__ENV, name)

/** Bearer token of every request; undefined where the server wants none. Files can only be read while k6 starts. */
const token = setting('TOKEN') ?? (setting('TOKEN_FILE') && open(setting('TOKEN_FILE') as string).trim())

export const AUTHORIZATION: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {}
