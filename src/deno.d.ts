/// <reference types="@types/deno" />
